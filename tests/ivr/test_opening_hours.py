from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from voiceflow_worker import InvalidInputError, OpeningHours

ZONE = "Asia/Singapore"


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """A time in Singapore, told in UTC; 2 November 2026 is a Monday."""
    return datetime(2026, 11, day, hour, minute, tzinfo=ZoneInfo(ZONE)).astimezone(ZoneInfo("UTC"))


HOURS = OpeningHours("mon-fri 09:00-18:00, sat 10:00-14:00, fri 22:00-02:00", zone=ZONE, closed=[date(2026, 11, 4)])


@pytest.mark.parametrize(
    ("time", "is_open"),
    [
        (at(2, 9), True),
        (at(2, 8, 59), False),
        (at(2, 17, 59), True),
        (at(2, 18), False),
        (at(4, 12), False),
        (at(7, 10), True),
        (at(7, 14), False),
        (at(8, 12), False),
        (at(6, 23), True),
        (at(7, 1, 59), True),
        (at(7, 2), False),
        (at(6, 1), False),
    ],
)
def test_it_is_open_within_its_hours_by_its_own_clocks(time: datetime, is_open: bool) -> None:
    assert HOURS.is_open(time) is is_open


def test_hours_without_days_hold_on_all_of_them() -> None:
    always = OpeningHours("00:00-24:00", zone=ZONE)
    assert all(always.is_open(at(day, hour)) for day in range(1, 8) for hour in range(24))


def test_days_may_go_over_the_end_of_the_week() -> None:
    weekend = OpeningHours("sat-mon 09:00-10:00", zone=ZONE)
    assert [weekend.is_open(at(day, 9)) for day in range(1, 8)] == [True, True, False, False, False, False, True]


@pytest.mark.parametrize(
    "hours", ["", "nine to five", "mon-fri", "xyz 09:00-10:00", "25:00-26:00", "09:60-10:00", "9-17"]
)
def test_hours_that_cannot_be_read_are_refused(hours: str) -> None:
    with pytest.raises(InvalidInputError, match="not opening hours"):
        OpeningHours(hours, zone=ZONE)


def test_a_zone_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no time zone"):
        OpeningHours("09:00-10:00", zone="Mars/Olympus")
