"""The zones of numbers, against a second source: the town that a number names, and GeoNames' zone of that town."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.country_windows import certain_zone, first_opening
from voiceflow_worker.model.numbers import zones
from voiceflow_worker.model.times import NumberZone, zone_named, zone_of_number
from voiceflow_worker.model.window import CallWindow

IN_TOWNS = {
    "+5581991234567": "America/Recife", "+558134221234": "America/Recife", "+558136191234": "America/Noronha",
    "+5591991234567": "America/Belem", "+559733431234": "America/Manaus", "+5511991234567": "America/Sao_Paulo",
    "+61740001234": "Australia/Brisbane", "+61730001234": "Australia/Brisbane", "+61755363636": "Australia/Sydney",
    "+61851240000": "Australia/Perth", "+526141234567": "America/Chihuahua", "+526271234567": "America/Chihuahua",
    "+526561234567": "America/Ciudad_Juarez", "+528681234567": "America/Matamoros", "+78452123456": "Europe/Saratov",
    "+903922281234": "Asia/Famagusta", "+34827123456": "Europe/Madrid", "+6433081234": "Pacific/Auckland",
    "+6433050123": "Pacific/Chatham", "+2434123456": "Africa/Lubumbashi", "+16892345678": "America/New_York",
    "+14742345678": "America/Regina", "+14232652222": "America/New_York", "+12702302222": "America/Chicago",
    "+18504312222": "America/New_York", "+19075812222": "America/Anchorage", "+12507822222": "America/Dawson_Creek",
    "+12502622222": "America/Dawson_Creek",
    "+12507742222": "America/Fort_Nelson", "+12504282222": "America/Creston", "+18676452222": "America/Rankin_Inlet",
    "+13055551234": "America/New_York", "+16045551234": "America/Vancouver", "+14185221234": "America/Toronto",
    "+18653542223": "", "+18655882222": "America/New_York",
}  # fmt: skip
"""Numbers with the zone of the town that the geocoder names, as GeoNames has it; of the last two, Rockwood (TN) is in
two zones by the two sources, and so no reason to doubt all of Knoxville."""
IN_SEVERAL = (
    "+12195550123", "+14235550123", "+12705550123", "+13645550123", "+14485550123", "+18505550123", "+18125550123",
    "+19305550123", "+19065550123", "+13085550123", "+16205550123", "+17855550123", "+15415550123", "+14585550123",
    "+12505550123", "+12365550123", "+17785550123", "+16725550123", "+18675550123", "+16055550123", "+16065550123",
    "+15745550123", "+13345550123", "+12502612222", "+5597991234567", "+526361234567", "+528911234567",
    "+905338601234", "+905428601234", "+972591234567", "+972561234567", "+68940912345", "+74112123456",
    "+97614441123",
)  # fmt: skip
"""Numbers whose code has two clocks, in exchanges that nobody lists; and those for which the two sources differ."""


def test_a_number_is_in_the_zone_of_its_town_and_no_zone_is_certain_where_a_code_has_two_clocks() -> None:
    found = {number: zone_of_number(number) for number in (*IN_TOWNS, *IN_SEVERAL)}
    assert {number: found[number].zone or "" for number in IN_TOWNS} == IN_TOWNS
    for number in IN_SEVERAL:
        assert found[number].zone is None, number
        assert len(found[number].among) > 1, number
        with pytest.raises(InvalidInputError, match=r"may be in several time zones .*give the person a time zone"):
            certain_zone([number])


def test_the_table_has_zones_of_the_database_and_each_row_its_source() -> None:
    lines = Path(zones.__file__).with_name("zones.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert {len(row) for row in rows} == {4}
    assert {name for row in rows for name in row[2].split() if zone_named(name) is None} == set()
    assert [row for row in rows if not row[3].strip() or not row[0].replace(" ", "").isdigit()] == []
    listed = [prefix + ending for row in rows for prefix in row[0].split() for ending in row[1].split() or ("",)]
    assert len(listed) == len(set(listed)) > 2000


def test_two_zones_are_one_clock_by_the_offsets_of_the_year_of_the_call() -> None:
    """Kazakhstan has one clock since March of 2024."""
    number, window = "+77710009998", CallWindow.parse("09:00-20:00")
    for year, zone in ((2023, None), (2024, None), (2026, "Asia/Almaty")):
        at = datetime(year, 12, 1, 12, tzinfo=UTC)
        assert zone_of_number(number, at=at).zone == zone, year
        opening = first_opening(window, numbers=[number], time_zone=None, at=at, valid_until=None)
        assert (opening.problem is None, opening.time_zone) == (zone is not None, zone), year


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_number_gets_one_zone_that_geonames_contradicts_for_its_town() -> None:
    """Of every prefix of the zones and of the geocoder of `phonenumbers`; and the table is what its script makes."""
    made = import_module("tests.model.number_zones")  # it loads the geocoder, which takes seconds
    towns, walked, wrong = made.Towns(), 0, list[tuple[str, NumberZone, object]]()
    for prefix in sorted({*made.TIMEZONE_DATA, *made.GEOCODE_DATA}):
        if made.code_of(prefix) is None:
            continue
        number = made.number_with(prefix)
        found, own = zone_of_number(number), towns.zones(number[1:])
        walked += 1
        if found.zone is not None and not all(made.agrees(found.zone, each) for each in own):
            wrong.append((number, found, own))
    assert wrong == []
    assert walked > 100_000
    written = [line for line in made.TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert written == made.written(towns)
