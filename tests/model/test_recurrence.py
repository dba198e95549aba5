"""Firings at local times: once each, over every kind of change of clocks, against a search minute by minute."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from voiceflow_worker.model.recurrence import Recurrence, read_cron

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ZONES = {
    "Europe/Berlin": 2026,
    "America/New_York": 2026,
    "America/St_Johns": 2006,  # a minute after midnight
    "America/Sao_Paulo": 2017,  # midnight is skipped
    "Africa/Cairo": 2026,
    "Africa/Casablanca": 2026,  # around Ramadan
    "Asia/Beirut": 2026,
    "Australia/Lord_Howe": 2026,  # by 30 minutes
    "Antarctica/Troll": 2026,  # by two hours
    "Pacific/Apia": 2011,  # a day is skipped
    "Pacific/Kwajalein": 1993,  # and here
    "Pacific/Chatham": 2026,  # at 02:45
    "Asia/Pyongyang": 2015,  # half an hour back
    "America/Caracas": 2016,
    "Asia/Singapore": 2026,
}
"""Zones, each with a year of changes."""
CRONS = (
    "30 2 * * *", "*/15 * * * *", "0 0 * * *", "5,35 1-3 * * *", "45 2 * * sun", "0 9 * * mon-fri", "59 23 L * *",
    "0 * * * *",
)  # fmt: skip


def changes(zone: ZoneInfo, year: int) -> Iterator[datetime]:
    """The hours in which the clocks of a zone change, or the first of the year if they never do."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=each) for each in range(366 * 24)]
    offsets = [at.astimezone(zone).utcoffset() for at in hours]
    found = [at for at, one, next_one in zip(hours, offsets, offsets[1:], strict=False) if one != next_one]
    yield from found or hours[:1]


@lru_cache(maxsize=2)
def clocks(zone: ZoneInfo, day: datetime) -> tuple[list[datetime], list[datetime], dict[datetime, datetime]]:
    """The minutes of six days, what clocks show in each, and the first minute at which they show a local time."""
    minutes = [day - 2 * DAY + each * MINUTE for each in range(6 * 24 * 60)]
    shown = [at.astimezone(zone).replace(tzinfo=None) for at in minutes]
    first: dict[datetime, datetime] = {}
    for at, local in zip(minutes, shown, strict=True):
        first.setdefault(local, at)
    return minutes, shown, first


def searched(cron: str, zone: ZoneInfo, day: datetime) -> list[datetime]:
    """The firings around a day: for each local time, the first minute at which clocks show it, or a later one."""
    minutes, shown, first = clocks(zone, day)
    fires = set[datetime]()
    for local in CronSim(cron, shown[0]):
        if local >= shown[-1]:
            break
        fires.add(first.get(local) or next(at for at, each in zip(minutes, shown, strict=True) if each > local))
    return sorted(fires)


CASES = [(zone, cron, at) for zone, year in ZONES.items() for at in changes(ZoneInfo(zone), year) for cron in CRONS]
FEW = random.Random(7).sample(CASES, 8)


def compare(cases: list[tuple[str, str, datetime]]) -> None:
    for name, cron, change in cases:
        zone, until = ZoneInfo(name), change + 2 * DAY
        fires = searched(cron, zone, change)
        for begin in (change - DAY, change + timedelta(minutes=41, seconds=7)):
            found = list(Recurrence(cron, zone).within(begin, until))
            assert found == [at for at in fires if begin < at <= until], (name, cron, change)


def test_each_local_time_fires_once_over_changes_of_clocks() -> None:
    assert {name for name, _, _ in CASES} == set(ZONES)
    compare(FEW)


@pytest.mark.slow
def test_each_local_time_fires_once_over_changes_of_clocks_of_all_kinds() -> None:
    compare(CASES)


@pytest.mark.parametrize(
    ("zone", "cron", "after", "firings"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00Z", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("Europe/Berlin", "*/15 2 29 3 *", "2026-03-28T12:00Z", ["2026-03-29T03:00+02:00", "2027-03-29T02:00+02:00"]),
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00Z", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T00:45Z", ["2026-10-26T02:30+01:00"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00Z", ["2026-10-04T02:30+11:00"]),
        ("Pacific/Apia", "0 9 * * *", "2011-12-30T00:00Z", ["2011-12-31T00:00+14:00", "2011-12-31T09:00+14:00"]),
        ("Africa/Monrovia", "10 0 * * *", "1972-01-06T12:00Z", ["1972-01-07T00:45+00:00"]),
    ],
)
def test_a_skipped_time_fires_at_the_next_minute_and_a_doubled_one_the_first_time(
    zone: str, cron: str, after: str, firings: list[str]
) -> None:
    recurrence = Recurrence(read_cron(cron), ZoneInfo(zone))
    found = islice(recurrence.after(datetime.fromisoformat(after)), len(firings))
    assert [recurrence.local(at).isoformat(timespec="minutes") for at in found] == firings


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 9 * *", "give five fields"),
        ("0 0 9 * * *", "give five fields"),
        ("", "give five fields"),
        ("61 * * * *", "its minute is wrong"),
        ("0 24 * * *", "its hour is wrong"),
        ("0 9 * * fri-mon", "its day of week is wrong"),
        ("0 9 * foo *", "its month is wrong"),
        ("0 9 * * 5L/2", "its day of week is wrong"),
        ("*/90 * * * *", "would not fire every 90: the minute ends with 59, and begins anew"),
        ("0 0/24 * * *", "the hour ends with 23"),
        ("0 9 */32 * *", "the day of the month ends with 31"),
        ("0 9 * 1-12/13 *", "the month ends with 12"),
        ("0 9 * * */8", "the day of the week ends with 7"),
        ("0 0 31 2,4 *", "day of month"),
        ("@daily", "write @daily as 0 0"),
        ("every day", "give five fields"),
        ("9" * 5000 + " * * * *", "give five fields"),
    ],
)
def test_what_is_no_cron_expression_is_refused_with_its_field(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_cron(text)


def test_an_expression_is_read_whatever_its_case_and_spaces() -> None:
    assert read_cron("  0 9 *\t* MON-Fri ") == "0 9 * * MON-Fri"
