"""Territories that are dialled as in their country, the zones of numbers, and the tables of facts."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from itertools import permutations
from pathlib import Path

import phonenumbers
import pytest
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneNumberFormat, PhoneNumberType

import voiceflow_worker
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.model.country_windows import certain_zone, first_opening
from voiceflow_worker.model.numbers import zones as zone_table
from voiceflow_worker.model.numbers.phone import country_of, dialled_alike
from voiceflow_worker.model.numbers.reading import read_number, read_sources
from voiceflow_worker.model.times import NumberZone, zone_of_number
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.model.zones import zone_named

# -- territories that are dialled as in their country ------------------------------------------------------------------

OF_PEOPLE = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE)
SHARED = {code: names for code, names in COUNTRY_CODE_TO_REGION_CODE.items() if len(names) > 1}
PAIRS = [pair for names in SHARED.values() for pair in permutations(names, 2)]
ALIKE = [(home, other) for home, other in PAIRS if other in dialled_alike(home)]


def examples_of(region: str) -> list[tuple[str, str]]:
    """Numbers of a region in E.164 form, each as it is dialled within the country."""
    found = [phonenumbers.example_number_for_type(region, kind) for kind in OF_PEOPLE]
    return [
        (
            phonenumbers.format_number(number, PhoneNumberFormat.E164),
            phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL),
        )
        for number in found
        if number is not None and phonenumbers.region_code_for_number(number) == region
    ]


def test_the_lists_know_all_that_share_a_calling_code() -> None:
    assert {"GB", "IT", "FI", "NO", "AU", "US"} <= {home for home, _ in ALIKE}
    assert all(home in dialled_alike(other) for home, other in ALIKE), "both ways"
    assert all(country_of(f"+{code}") is None for code in SHARED)


def test_a_number_of_the_territory_is_read_in_the_country_as_one_reading() -> None:
    for home, other in ALIKE:
        for e164, national in examples_of(other):
            for written in (national, national.replace(" ", ""), e164[1:]):
                found = read_number(written, home)
                assert found == e164
                assert country_of(found) in {home, other}, "some plans have the same numbers"


def test_another_country_of_the_same_code_stays_refused() -> None:
    refused = 0
    for home, other in PAIRS:
        for e164, national in examples_of(other):
            if other in dialled_alike(home):
                continue
            try:
                found = read_number(national, home)
            except PhoneNumberError:
                refused += 1
            else:
                assert country_of(found) in dialled_alike(home), (home, other, national)
                assert found != e164
    assert refused > 500
    for written, home in (("(876) 555-1234", "US"), ("(416) 234-5678", "US"), ("8 701 123 4567", "RU")):
        with pytest.raises(PhoneNumberError, match=f"is no number of {home}"):
            read_number(written, home)


def test_a_territory_is_called_from_the_number_of_its_country() -> None:
    sources = read_sources("GB=+442079460958,US=+12025550123")
    assert sources.to("+447797712345") == "+442079460958"
    with pytest.raises(PhoneNumberError, match="number of JM"):
        sources.to("+18765551234")
    assert read_sources("GB=+442079460958,JE=+441534456789").to("+447797712345") == "+441534456789"


# -- the zones of numbers, against a second source: the town that a number names, by GeoNames --------------------------

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
        with pytest.raises(InvalidInputError, match=r"may be in several time zones .*Give the person a column"):
            certain_zone([number])


def test_the_table_has_zones_of_the_database_and_each_row_its_source() -> None:
    lines = Path(zone_table.__file__).with_name("zones.tsv").read_text(encoding="utf-8").splitlines()
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


# -- the tables of facts: each has its date, its sources, and is looked up again within a year -------------------------

TABLES = sorted(Path(voiceflow_worker.__file__).parent.rglob("*.tsv"))
A_YEAR = timedelta(days=366)


@pytest.mark.parametrize("table", TABLES, ids=[each.name for each in TABLES])
def test_a_table_has_its_date_and_is_not_a_year_old(table: Path) -> None:
    lines = table.read_text(encoding="utf-8").splitlines()
    comments = " ".join(each.removeprefix("# ") for each in lines if each.startswith("#"))
    dated = re.search(r"\b[Aa]s of (\d{4}-\d\d-\d\d)", comments)
    assert dated is not None, "a comment says: as of 2026-11-29"
    age = datetime.now(UTC).date() - date.fromisoformat(dated[1])
    assert age < A_YEAR, f"{table.name} is {age.days} days old: compare it with its sources, and change its date"
    rows = [each.split("\t") for each in lines if each and not each.startswith("#")]
    assert {len(each) for each in rows} == {len(rows[0])}
    assert [each for each in rows if not each[-1].strip()] == []
