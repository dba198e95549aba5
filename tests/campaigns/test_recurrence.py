"""Runs at local times: once each, over every kind of change of clocks, against a search minute by minute."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from voiceflow_worker.campaigns.recurrence import Recurrence, read_cron

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
    "*/30 * * * sat,sun,mon",
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
    """The runs around a day: for each local time, the first minute at which clocks show it, or a later one.

    With a `*` before the minutes or the hours, these are all minutes at which clocks show one of the local times.
    """
    minutes, shown, first = clocks(zone, day)
    wanted = list(takewhile(lambda local: local < shown[-1], CronSim(cron, shown[0])))
    if "*" in cron[0] + cron.split()[1]:
        return [at for at, each in zip(minutes, shown, strict=True) if each in set(wanted)]
    later = (
        first.get(local) or next(at for at, each in zip(minutes, shown, strict=True) if each > local)
        for local in wanted
    )
    return sorted(set(later))


@cache
def cases() -> list[tuple[str, str, datetime]]:
    return [(zone, cron, at) for zone, year in ZONES.items() for at in changes(ZoneInfo(zone), year) for cron in CRONS]


def compare(chosen: list[tuple[str, str, datetime]]) -> None:
    for name, cron, change in chosen:
        zone, until = ZoneInfo(name), change + 2 * DAY
        runs = searched(cron, zone, change)
        for begin in (change - DAY, change + timedelta(minutes=41, seconds=7)):
            found = list(Recurrence(cron, zone).within(begin, until))
            assert found == [at for at in runs if begin < at <= until], (name, cron, change)


def test_each_local_time_runs_once_and_each_hour_always_over_changes_of_clocks() -> None:
    assert {name for name, _, _ in cases()} == set(ZONES)
    compare(random.Random(7).sample(cases(), 8))


@pytest.mark.slow
def test_each_local_time_runs_once_and_each_hour_always_over_changes_of_all_kinds() -> None:
    compare(cases())


@pytest.mark.parametrize(
    ("zone", "cron", "after", "runs"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00Z", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00Z", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T00:45Z", ["2026-10-26T02:30+01:00"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00Z", ["2026-10-04T02:30+11:00"]),
        ("Pacific/Apia", "0 9 * * *", "2011-12-30T00:00Z", ["2011-12-31T00:00+14:00", "2011-12-31T09:00+14:00"]),
        ("Africa/Monrovia", "10 0 * * *", "1972-01-06T12:00Z", ["1972-01-07T00:45+00:00"]),
    ],
)
def test_a_skipped_time_runs_at_the_next_minute_and_a_doubled_one_the_first_time(
    zone: str, cron: str, after: str, runs: list[str]
) -> None:
    recurrence = Recurrence(read_cron(cron), ZoneInfo(zone))
    found = islice(recurrence.after(datetime.fromisoformat(after)), len(runs))
    assert [recurrence.local(at).isoformat(timespec="minutes") for at in found] == runs


WRONG = {
    "give five fields": ("0 9 * *", "@daily", "0 0 9 * * *", "", "every day", "9" * 5000 + " * * * *"),
    "its minute is wrong": ("61 * * * *",), "its hour is wrong": ("0 24 * * *", "0 22-2 * * *"),
    "its day of week is wrong": ("0 9 * * sat-mon", "0 9 * * friL", "0 9 * * 6-1", "0 9 * * sat-8", "0 9 * * 5L/2"),
    "its month is wrong": ("0 9 * foo *",), "the hour ends with 23": ("0 0/24 * * *",),
    "would not run every 90: the minute ends with 59, and begins anew": ("*/90 * * * *",),
    "the day of the month ends with 31": ("0 9 */32 * *",), "the month ends with 12": ("0 9 * 1-12/13 *",),
    "the day of the week ends with 7": ("0 9 * * */8",), "day of month": ("0 0 31 2,4 *",),
}  # fmt: skip


def test_what_is_no_cron_expression_is_refused_with_its_field() -> None:
    for why, texts in WRONG.items():
        for text in texts:
            with pytest.raises(ValueError, match=why):
                read_cron(text)


def test_an_expression_is_read_whatever_its_case_and_spaces() -> None:
    assert read_cron("  0 9 *\t* MON-Fri ") == "0 9 * * MON-Fri"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Antarctica/Troll", "Asia/Beirut"])
@pytest.mark.parametrize(("cron", "minutes"), [("0 * * * *", 60), ("*/30 * * * *", 30)])
def test_what_runs_every_hour_runs_by_the_time_that_passes(zone: str, cron: str, minutes: int) -> None:
    recurrence = Recurrence(read_cron(cron), ZoneInfo(zone))
    for change in changes(recurrence.zone, ZONES[zone]):
        found = list(recurrence.within(change - DAY, change + DAY))
        assert {later - each for each, later in pairwise(found)} == {minutes * MINUTE}, change
        assert found == list(islice(recurrence.after(change - DAY), len(found)))
        assert len({recurrence.batch_id("often", at) for at in found}) == len(found), "each is a batch of its own"


WEEKS = [datetime(2026, 3, 1, tzinfo=UTC) + each * DAY for each in range(400)]


DAYS: dict[str, Callable[[datetime], bool]] = {
    "* * mon-7": bool, "* * mon#1": lambda day: day.weekday() == 0 and day.day <= 7,
    "* * fri#5": lambda day: day.weekday() == 4 and day.day > 28,
    "* * 5L": lambda day: day.weekday() == 4 and (day + 7 * DAY).month != day.month,
    "L * *": lambda day: (day + DAY).month != day.month,
    "LW * *": lambda day: day.weekday() < 5 and all((day + each * DAY).month != day.month for each in until(day)),
    "1-7 * mon": lambda day: day.day <= 7 or day.weekday() == 0,
    "*/2 * mon": lambda day: day.day % 2 == 1 and day.weekday() == 0,
    "13 * */5": lambda day: day.day == 13 and day.weekday() in {6, 4},
    "1,15 * mon-fri": lambda day: day.day in {1, 15} or day.weekday() < 5,
    "L * fri": lambda day: (day + DAY).month != day.month or day.weekday() == 4,
}  # fmt: skip


@pytest.mark.parametrize("cron", DAYS)
def test_days_of_the_week_and_of_the_month(cron: str) -> None:
    recurrence = Recurrence(read_cron(f"0 9 {cron}"), ZoneInfo("UTC"))
    runs = [at.replace(hour=0) for at in recurrence.within(WEEKS[0], WEEKS[-1] + DAY)]
    assert runs == [day for day in WEEKS if DAYS[cron](day)]


def until(day: datetime) -> range:
    """From a day to the next weekday."""
    return range(3 if day.weekday() == 4 else 1, 4)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 9 1-7 * mon", "at 09:00 on every day of month from 1 through 7 and on Monday"),
        ("0 9 */2 * mon", "at 09:00 on every second day of month if it's on Monday"),
        ("0 9 * * mon/2", "at 09:00 on every second day of week from Monday through Sunday"),
    ],
)
def test_an_expression_is_said_in_words(cron: str, words: str) -> None:
    assert Recurrence(read_cron(cron), ZoneInfo("UTC")).in_words() == words
