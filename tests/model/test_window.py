"""Calling windows against a walk through the minutes of a local clock, and what people may write."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import holidays
import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model import window as window_rules
from voiceflow_worker.model.times import zone_of_number
from voiceflow_worker.model.window import CallWindow, Span, Weekday, holidays_of
from voiceflow_worker.model.zones import zone_file

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
SINGAPORE = ZoneInfo("Asia/Singapore")
COLOMBO = ZoneInfo("Asia/Colombo")
BERLIN = ZoneInfo("Europe/Berlin")
# Clocks that are set at 1, 2 and 3 o'clock and at midnight, by an hour and by half of one, or never; and a day that
# Samoa left out.
ZONES = {
    "Europe/Berlin": (date(2026, 3, 29), date(2026, 10, 25)),
    "America/New_York": (date(2026, 3, 8), date(2026, 11, 1)),
    "Australia/Lord_Howe": (date(2026, 4, 5), date(2026, 10, 4)),
    "America/Santiago": (date(2026, 4, 5), date(2026, 9, 6)),
    "Africa/Cairo": (date(2026, 4, 24), date(2026, 10, 30)),
    "America/Havana": (date(2026, 3, 8), date(2026, 11, 1)),
    "Asia/Kathmandu": (date(2026, 1, 1), date(2026, 7, 1)),
    "Pacific/Apia": (date(2011, 12, 30), date(2026, 1, 1)),
}

CLOCKS = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
SPANS = st.tuples(CLOCKS, CLOCKS).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: Span(*pair))
WINDOWS = st.builds(
    CallWindow,
    spans=st.lists(SPANS, min_size=1, max_size=3).map(tuple),
    days=st.frozensets(st.sampled_from(Weekday), min_size=1),
    holidays=st.sampled_from([(), ("DE",), ("US", "SG")]),
)


@st.composite
def places(draw: st.DrawFn) -> tuple[ZoneInfo, datetime]:
    """A zone, and a moment within a day and a half of a day on which its clocks are set."""
    name = draw(st.sampled_from(sorted(ZONES)))
    day = draw(st.sampled_from(ZONES[name]))
    minutes = draw(st.integers(-36 * 60, 36 * 60))
    return ZoneInfo(name), datetime(day.year, day.month, day.day, tzinfo=UTC) + minutes * MINUTE


def shown_open(window: CallWindow, zone: ZoneInfo, at: datetime) -> bool:
    """The rule as a person with a calendar and a clock would apply it."""
    local = at.astimezone(zone)
    today, clock = local.date(), (local.hour, local.minute)

    def free(day: date) -> bool:
        return any(day in (holidays_of(code, year=day.year) or ()) for code in window.holidays)

    def counts(day: date) -> bool:
        return day.weekday() in {int(each) for each in window.days} and not free(day)

    for span in window.spans:
        start, end = (span.start.hour, span.start.minute), (span.end.hour, span.end.minute)
        if start < end and start <= clock < end and counts(today):
            return True
        if end <= start and clock >= start and counts(today):
            return True
        if end <= start and clock < end and counts(today - DAY) and not free(today):
            return True
    return False


class TestAgainstAWalkThroughTheMinutes:
    @given(WINDOWS, places())
    def test_it_opens_at_the_first_minute_at_which_the_local_clock_shows_an_hour_of_it(
        self, window: CallWindow, where: tuple[ZoneInfo, datetime]
    ) -> None:
        zone, at = where
        walked = next((at + n * MINUTE for n in range(2 * 24 * 60) if shown_open(window, zone, at + n * MINUTE)), None)
        opens = window.opens(at, zone)
        if walked is None:
            assert opens is None or opens >= at + 2 * DAY
        else:
            assert opens == walked

    @given(WINDOWS, places())
    def test_it_closes_at_the_first_minute_at_which_it_does_not(
        self, window: CallWindow, where: tuple[ZoneInfo, datetime]
    ) -> None:
        zone, at = where
        minutes = range(2 * 24 * 60)
        walked = next((at + n * MINUTE for n in minutes if not shown_open(window, zone, at + n * MINUTE)), None)
        closes = window.closes(at, zone)
        if walked is None:
            assert closes is None or closes >= at + 2 * DAY
        else:
            assert closes == walked

    @given(WINDOWS, places(), st.integers(0, 59_999_999))
    def test_what_opens_is_open_and_what_closes_is_not(
        self, window: CallWindow, where: tuple[ZoneInfo, datetime], microseconds: int
    ) -> None:
        zone, at = where[0], where[1] + timedelta(microseconds=microseconds)
        opens = window.opens(at, zone)
        if opens is None:
            return
        assert opens >= at
        assert window.is_open(opens, zone)
        closes = window.closes(opens, zone)
        assert closes is None or (closes > opens and not window.is_open(closes, zone))


class TestDaysAndHolidays:
    def test_a_country_has_the_holidays_of_the_whole_nation_and_a_part_its_own(self) -> None:
        epiphany = datetime(2026, 1, 6, 11, tzinfo=UTC)
        for code, is_open in (("DE", True), ("de-by", False), ("DE-BE", True)):
            assert CallWindow.parse("09:00-20:00", holidays=code).is_open(epiphany, BERLIN) is is_open

    def test_a_window_is_closed_when_the_offices_of_a_country_are(self) -> None:
        for code, zone, closed, opens in [
            ("HK", "Asia/Hong_Kong", "2027-03-26", "2027-03-30"),  # Good Friday, and Easter Monday
            ("ID", "Asia/Jakarta", "2027-03-15", "2027-03-16"),  # joint leave after Eid al-Fitr
            ("SE", "Europe/Stockholm", "2027-06-25", "2027-06-28"),  # Midsummer Eve
            ("BR", "America/Sao_Paulo", "2027-02-08", "2027-02-11"),  # Carnival and Ash Wednesday
            ("JP", "Asia/Tokyo", "2026-12-31", "2027-01-04"),
            ("DE-BY", "Europe/Berlin", "2027-01-06", "2027-01-07"),  # Epiphany: a public holiday
            ("AU", "Australia/Sydney", "2026-12-28", "2026-12-29"),  # a holiday of each state
            ("AU", "Australia/Perth", "2027-12-27", "2027-12-29"),
            ("AU", "Australia/Perth", "2028-01-03", "2028-01-04"),
            ("BA", "Europe/Sarajevo", "2027-05-03", "2027-05-04"),
            ("IE", "Europe/Dublin", "2026-12-28", "2026-12-29"),  # banks
            ("IE", "Europe/Dublin", "2027-12-27", "2027-12-29"),
            ("SG,2026-12-24..2026-12-31", "Asia/Singapore", "2026-12-24", "2027-01-04"),
            ("2026-12-28", "Asia/Singapore", "2026-12-28", "2026-12-29"),
        ]:
            window, there = CallWindow.parse("09:00-18:00", days="mon-fri", holidays=code), ZoneInfo(zone)
            at, first = (datetime.fromisoformat(f"{day} 09:00").replace(tzinfo=there) for day in (closed, opens))
            assert window.opens(at, there) == first, code

    def test_the_table_of_countries_has_categories_of_the_library_and_a_sentence_each(self) -> None:
        lines = Path(window_rules.__file__).with_name("holidays.tsv").read_text(encoding="utf-8").splitlines()
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
        for country, categories, why in rows:
            known = holidays.country_holidays(country, years=2027, categories=tuple(categories.split()))
            assert known, country
            assert why.endswith("."), country

    def test_nothing_rings_in_a_year_that_the_calendar_does_not_have(self) -> None:
        """The calendar of Sri Lanka is known for one year at a time."""
        last = holidays.country_holidays("LK").end_year
        window = CallWindow.parse("00:00-24:00", holidays="LK")
        eve = datetime(last, 12, 30, 6, tzinfo=UTC)
        assert window.opens(eve, COLOMBO) == eve
        assert window.closes(eve, COLOMBO) == datetime(last, 12, 31, 18, 30, tzinfo=UTC)
        assert not window.is_open(datetime(last + 1, 1, 4, 6, tzinfo=UTC), COLOMBO)
        assert window.opens(datetime(last + 1, 1, 4, 6, tzinfo=UTC), COLOMBO) is None

    def test_one_that_is_always_open_never_closes(self) -> None:
        at = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
        assert CallWindow.parse().opens(at, SINGAPORE) == at
        assert CallWindow.parse().closes(at, SINGAPORE) is None


class TestWhatPeopleWrite:
    @pytest.mark.parametrize(
        ("hours", "days", "holidays", "written"),
        [
            ("09:00-20:00", None, None, "09:00-20:00 mon-sun"),
            ("9-20", "mon-sat", "sg", "09:00-20:00 mon-sat SG"),
            (" 9:30 \u2013 24:00 ", "Monday, wed,FRI", "de-by, UK", "09:30-24:00 mon,wed,fri DE-BY,GB"),
            ("22:00-06:00,12:00-13:00", "sat-mon", None, "22:00-06:00,12:00-13:00 mon,sat,sun"),
            (None, "mon-fri", "US-CA", "00:00-24:00 mon-fri US-CA"),
        ],
    )
    def test_it_is_understood_and_written_in_one_way(
        self, hours: str | None, days: str | None, holidays: str | None, written: str
    ) -> None:
        window = CallWindow.parse(hours, days=days, holidays=holidays)
        assert (str(window), CallWindow.recalled(written)) == (written, window)

    @given(WINDOWS)
    def test_what_is_written_is_read_again(self, window: CallWindow) -> None:
        assert CallWindow.recalled(str(window)) == window

    def test_what_is_not_understood_is_refused_with_a_sentence(self) -> None:
        given: dict[str, str]
        for given, told in [
            ({"hours": "9 to 5"}, "write it as 09:00-20:00"), ({"hours": "09:00-09:00"}, "ends when it starts"),
            ({"hours": "09:00-25:00"}, "give times from 00:00 to 24:00"),
            ({"hours": "09:60-10:00"}, "give times from 00:00 to 24:00"),
            ({"hours": "09:00-10:00,"}, "has an empty entry: give hours"),
            *(({"days": days}, f"is not a day, '{days.removeprefix('mon-')}'") for days in ("mon-foo", "mo", "1/2")),
            ({"holidays": "Singapore"}, "is not a calendar"), ({"holidays": "XX"}, "no calendar for 'XX'"),
            ({"holidays": "DE-XX"}, "no calendar for 'DE-XX'"),
        ]:  # fmt: skip
            with pytest.raises(InvalidInputError, match=told):
                CallWindow.parse(given.pop("hours", None), **given)
        with pytest.raises(ValueError, match="not a calling window"):
            CallWindow.recalled("whenever anybody likes")
        for start, end in ((time(0, 0, 10), time(0, 0, 20)), (time(9), time(20, 0, 30)), (time(9, 0, 0, 5), time(20))):
            with pytest.raises(InvalidInputError, match="on whole minutes"):
                Span(start, end)


def test_the_zone_of_a_number_is_known_where_all_clocks_agree_and_not_guessed_where_they_differ() -> None:
    for number, zone in {
        "+6587654321": "Asia/Singapore", "+491701234567": "Europe/Berlin", "+447911123456": "Europe/Guernsey",
        "+12025550123": "America/New_York", "+6580000000": "Asia/Singapore",  # its plan does not have it
    }.items():  # fmt: skip
        assert zone_of_number(number).zone == zone
    for number in ("+61412345678", "+18005551234"):
        assert (zone_of_number(number).zone, len(zone_of_number(number).among) > 1) == (None, True)
    for number in ("+999123456789", "not a number", "+19995551234", "+80012345678", "+883510012345678",
                   "+870773111632"):  # fmt: skip
        assert zone_of_number(number).zone is None, number


UNTOLD = ("+62812345678", "+6913501234", "+67570123456", "+61412345678", "+56961234567", "+521222123456")


def test_the_zone_of_a_number_is_one_of_its_country_or_not_known() -> None:
    """Of every country: its own zones by zone.tab. `phonenumbers` has some in the zone of a neighbour."""
    own: dict[str, set[str]] = {}
    for line in zone_file("zone.tab").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            own.setdefault(line.split("\t")[0], set()).add(line.split("\t")[2])
    kinds = phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE
    known: Counter[bool] = Counter()
    for region, kind in product(sorted(phonenumbers.SUPPORTED_REGIONS), kinds):
        if (example := phonenumbers.example_number_for_type(region, kind)) is not None:
            e164 = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
            found = zone_of_number(e164)
            among = own.get(phonenumbers.region_code_for_number(example) or region)
            assert among is None or (found.among and among.issuperset(found.among)), (e164, found)
            assert found.zone is None or found.zone in found.among, e164
            known[found.zone is not None] += 1
    assert known[True] > 400, "nearly every country has one clock"
    for number, zone in {
        "+212650123456": "Africa/Casablanca", "+213551234567": "Africa/Algiers", "+218912345678": "Africa/Tripoli",
        "+50581234567": "America/Managua", "+211977123456": "Africa/Juba", "+77710009998": "Asia/Almaty",
        "+8613123456789": "Asia/Shanghai", "+380501234567": "Europe/Kyiv", "+5592961234567": "America/Manaus",
        "+12684641234": "America/Antigua", "+353850123456": "Europe/Dublin",
    }.items():  # fmt: skip
        assert zone_of_number(number).zone == zone
    for number in UNTOLD:
        assert zone_of_number(number).zone is None, number
