"""Schedules: each run starts once and whole, however many processes look, and whatever dies, waits or changes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import cast

import anyio.lowlevel
import pytest

from tests.contract.samples import ManualClock
from tests.support.faulty_store import Dies, FaultyStore, StoreCall, nothing
from tests.support.manual_time import time_passing
from tests.support.stores import DURABLE
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.actions import ActionRefusedError, Operator, UnknownSubjectError
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.campaigns import enqueue as enqueueing
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.reading import starts_of
from voiceflow_worker.core.orders import OrderedStore
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import STARTS
from voiceflow_worker.core.ports.store import BulkWrite, Record, Wanted, Write
from voiceflow_worker.errors import ChangedSinceError, StoreUnavailableError
from voiceflow_worker.model.text.wording import count_of, in_words, rfc3339
from voiceflow_worker.reporting.batches import read_batch
from voiceflow_worker.service.schedule import LEASE, Scheduler
from voiceflow_worker.service.schedule_actions import RunNow, SkipNext, Unskip
from voiceflow_worker.service.scheduled_run import (
    LEASES,
    RunState,
    Schedule,
    ScheduledRun,
    read_schedules,
    run_put,
    run_records,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PEOPLE = tuple(f"+658765400{place}" for place in range(5))
DAILY = """
file = "people.csv"
say = "Hello"
source = "+6531234567"
voice_profile = "en-US-JennyNeural"
cron = "0 9 * * *"
time_zone = "UTC"
"""


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueueing, "CHUNK", 2)


def people(folder: Path, numbers: Sequence[str] = PEOPLE, *, column: str = "destination") -> None:
    new = folder / "people.new"
    new.write_text("\n".join([column, *numbers, ""]))
    new.replace(folder / "people.csv")


def written(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def rewritten(path: Path, content: str, at: datetime) -> None:
    """A file with new content, written at a time."""
    written(path, content)
    os.utime(path, times=(at.timestamp(),) * 2)


@pytest.fixture
def daily(tmp_path: Path) -> Path:
    people(tmp_path)
    return written(tmp_path / "daily.toml", DAILY)


@dataclass
class Host:
    """A machine that runs the schedule, with a clock of its own, on which no time passes while a store is at work."""

    queue: CallQueue
    clock: ManualClock
    files: tuple[Path, ...]
    stores: tuple[FaultyStore, ...] = ()
    told: list[ScheduledRun] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.queue, self.files, tell=self.told.append)

    def over(self, store: Store) -> Host:
        """The same machine, with its store behind a wrapper."""
        return Host(CallQueue(store), self.clock, self.files, self.stores)

    async def look(self, at: datetime | None = None) -> list[RunState]:
        """What the machine settles at a time by its clock, and while it waits for others."""
        if at is not None:
            self.clock.advance(at - self.clock.now())
        async with time_passing(self.clock, step=timedelta(milliseconds=20), stores=self.stores):
            try:
                found: list[ScheduledRun] | StoreUnavailableError = await self.scheduler.once()
            except StoreUnavailableError as error:
                found = error  # not within the group
        if isinstance(found, StoreUnavailableError):
            raise found
        return [each.state for each in found]

    async def calls(self) -> dict[str, list[str]]:
        """The numbers of each batch."""
        found: dict[str, list[str]] = {}
        for job in await self.queue.find():
            found.setdefault(job.batch_id or "", []).append(job.destination)
        return {batch: sorted(numbers) for batch, numbers in sorted(found.items())}

    async def ringing(self) -> int:
        now = self.clock.now()
        store = self.queue.store
        return len(await store.lease("default", worker_id="w", limit=99, until=now + DAY, now=now))


@pytest.fixture(params=["sqlite"])
async def hosts(
    request: pytest.FixtureRequest, fresh_url: Callable[[str], str], daily: Path
) -> AsyncIterator[tuple[Host, Host]]:
    """Two machines with one store, whose clocks are two seconds apart."""
    url, clocks = (
        fresh_url(request.param),
        [ManualClock(NINE - MINUTE + each * timedelta(seconds=2)) for each in (0, 1)],
    )
    async with open_store(url, clock=clocks[0]) as one, open_store(url, clock=clocks[1]) as other:
        stores = FaultyStore(one), FaultyStore(other)
        both = tuple(Host(CallQueue(each), clock, (daily,), stores) for each, clock in zip(stores, clocks, strict=True))
        for host in both:
            assert await host.look() == [], "it is seen for the first time"
        yield both[0], both[1]


@pytest.fixture
def host(hosts: tuple[Host, Host]) -> Host:
    return hosts[0]


EACH_STORE = pytest.mark.parametrize(
    "hosts",
    [each if each == "sqlite" else pytest.param(each, marks=pytest.mark.slow) for each in DURABLE],
    indirect=True,
)


@EACH_STORE
async def test_each_run_is_a_batch_of_its_own_that_one_of_two_machines_starts(hosts: tuple[Host, Host]) -> None:
    for day in range(3):
        assert await hosts[0].look(NINE + day * DAY - MINUTE) == []
        async with anyio.create_task_group() as group:
            for host in hosts:
                group.start_soon(host.look, NINE + day * DAY)
        assert [await host.look() for host in hosts] == [[], []]
    batches = [f"daily-2026-03-0{day}-0900" for day in (2, 3, 4)]
    assert await hosts[0].calls() == {each: list(PEOPLE) for each in batches}
    assert await hosts[0].ringing() == 15
    (act,) = await entries_on(hosts[0].queue.store, "default", batch=batches[0])
    assert (act.name, act.result) == ("schedule daily", "5 calls of 5 enqueued")


async def test_two_machines_start_each_half_hour_once_over_a_change_of_clocks(
    hosts: tuple[Host, Host], daily: Path
) -> None:
    written(daily, DAILY.replace("0 9 * * *", "15,45 * * * *").replace("UTC", "Australia/Lord_Howe"))
    begin = datetime(2026, 4, 4, 13, 30, tzinfo=UTC)  # 00:30 there; at 02:00 it is 01:30 again
    for minute in range(0, 180, 5):
        for host in hosts:
            await host.look(begin + minute * MINUTE)
    started = await hosts[0].calls()
    times = ("0045", "0115", "0145", "0145-2", "0215", "0245")
    assert started == {f"daily-2026-04-05-{at}": list(PEOPLE) for at in times}


@EACH_STORE
async def test_a_run_whose_process_dies_at_any_step_is_completed_by_another(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    for step in range(1, 20):
        at, dies = NINE + (step - 1) * DAY, Dies(step)
        victim = one.over(dies.over(one.queue.store))
        with suppress(StoreUnavailableError):
            await victim.look(at)
        done = await other.look(at + LEASE + timedelta(seconds=1))
        assert done == ([RunState.STARTED] if step < 13 else []), step
        assert (await other.calls())[f"daily-{at:%Y-%m-%d}-0900"] == list(PEOPLE)
        assert await other.ringing() == 5
        if not dies.is_dead:
            break
    assert step > 6


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_process_that_stood_still_stores_nothing_beside_its_successor(
    hosts: tuple[Host, Host], daily: Path, keyed: bool
) -> None:
    one, other = hosts
    stood = list[int]()

    def put(numbers: Sequence[str]) -> None:
        rows = [f"{each},{each}" for each in numbers] if keyed else numbers
        people(daily.parent, rows, column="destination,unique_key" if keyed else "destination")

    async def stand_still(call: StoreCall) -> None:
        calls = await other.calls()
        if call.name == "write" and sum(map(len, calls.values())) == 2 and not stood:
            stood.append(2)
            put(PEOPLE[3:])
            one.clock.advance(timedelta(seconds=40))
            other.clock.advance(timedelta(seconds=100))
            assert await other.look() == [RunState.STARTED]

    put(PEOPLE)
    other.clock.advance(MINUTE)
    slow = one.over(FaultyStore(one.queue.store, before=stand_still))
    assert await slow.look(NINE) in ([], [RunState.STARTED]), "as the other one left it"
    assert stood
    assert await other.calls() == {"daily-2026-03-02-0900": sorted([*PEOPLE[:2], *PEOPLE[3:]])}
    assert await other.ringing() == 2, "the two that were stored of the old file stay held"


async def test_after_a_long_stop_only_the_last_run_within_misfire_starts(host: Host, daily: Path) -> None:
    rewritten(
        daily, DAILY.replace("0 9 * * *", "*/10 * * * *").replace("UTC", "Asia/Singapore"), NINE - timedelta(seconds=30)
    )
    assert await host.look(NINE + 2 * MINUTE) == [RunState.STARTED], "those before it were never due"
    missed, started = RunState.MISSED, RunState.STARTED
    assert await host.look(NINE + 41 * MINUTE) == [missed, missed, missed, started]
    assert "no `voiceflow schedule`" in host.told[1].message
    assert "a later run is due as well" in host.told[3].message
    assert list(await host.calls()) == ["daily-2026-03-02-1700", "daily-2026-03-02-1740"]
    assert len(await host.look(NINE + 10 * DAY)) == 10, "the last of those that were missed, and the one that is due"


FIRST_RUNS: dict[str, tuple[str, str, str, str]] = {
    "written five minutes past its time": ("UTC", "0 9 * * *", "2026-03-02 09:05", "2026-03-03 09:00"),
    "just before it": ("UTC", "0 9 * * *", "2026-03-02 08:59", "2026-03-02 09:00"),
    "a time that is skipped": ("Europe/Paris", "30 2 * * *", "2026-03-28 01:35", "2026-03-29 01:00"),
    "after that": ("Europe/Paris", "30 2 * * *", "2026-03-29 01:05", "2026-03-30 00:30"),
    "a time that came twice": ("Europe/Paris", "30 2 * * *", "2026-10-25 00:35", "2026-10-26 01:30"),
    "each half hour": ("Europe/Paris", "*/30 * * * *", "2026-10-25 00:35", "2026-10-25 01:00"),
}


async def named(host: Host, name: str = "daily") -> Schedule:
    """The schedule with this name, as lists show it."""
    return next(each for each in await read_schedules(host.queue.store) if each.times.schedule == name)


def at(known: Schedule, now: datetime) -> Schedule:
    """A schedule as it is shown at a time."""
    return replace(known, now=now)


@EACH_STORE
@pytest.mark.parametrize("how", FIRST_RUNS)
async def test_a_schedule_starts_first_at_its_next_time_and_is_overdue_at_once(
    hosts: tuple[Host, Host], daily: Path, how: str
) -> None:
    """It is written a little after its time; over changes of the clocks too."""
    zone, cron, *times = FIRST_RUNS[how]
    seen, first = (datetime.fromisoformat(each).replace(tzinfo=UTC) for each in times)
    new = written(daily.with_name("new.toml"), DAILY.replace("UTC", zone).replace("0 9 * * *", cron))
    one, other = (Host(each.queue, each.clock, (new,)) for each in hosts)
    assert (await one.look(seen), await other.look(seen + timedelta(seconds=3))) == ([], [])
    (status,) = await one.scheduler.statuses(count=1)
    assert status.next_at == (first,), "as the list says"
    known = await named(one, "new")
    assert (at(known, first).overdue_since, at(known, first - MINUTE).following) == (None, first)
    late = at(known, first + MINUTE)
    assert late.overdue_since == first, "within a minute it is told that nobody starts it"
    assert (late.following or first) > first + MINUTE
    assert "no `voiceflow schedule`" in late.later_in_words()
    assert await other.look(first + timedelta(seconds=1)) == [RunState.STARTED]
    assert await one.look(first + timedelta(seconds=4)) == []
    known = await named(one, "new")
    assert (known.last.at, at(known, first + MINUTE).overdue_since) == (first, None)


async def test_of_a_schedule_that_is_moved_the_next_run_is_known(host: Host, daily: Path) -> None:
    await host.look(NINE)
    rewritten(daily, DAILY.replace("0 9", "0 18"), NINE + MINUTE)
    assert await host.look(NINE + 2 * MINUTE) == []
    known = await named(host)
    assert (at(known, NINE + HOUR).following, at(known, NINE + 9 * HOUR).overdue_since) == (NINE + 9 * HOUR, None)
    assert known.last.state is RunState.STARTED


async def test_nothing_starts_later_than_misfire(host: Host) -> None:
    await host.look(NINE - DAY)
    assert await host.look(NINE + timedelta(minutes=14, seconds=59)) == [RunState.STARTED]
    assert await host.look(NINE + DAY + timedelta(minutes=15)) == [RunState.MISSED]


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda folder: (folder / "people.csv").unlink(), "people.csv cannot be read"),
        (lambda folder: people(folder, column="phone"), "destination"),
        (lambda folder: people(folder, ["+6587654000", "12"]), "1 row|destination"),
        (lambda folder: people(folder, []), "no rows|empty"),
        (lambda folder: (folder / "daily.toml").write_text(DAILY + 'template = "gone.json"'), "gone.json"),
        (lambda folder: (folder / "daily.toml").write_text(DAILY + 'days = "noday"'), "noday"),
        (lambda folder: (folder / "daily.toml").write_text("cron ="), "not TOML"),
        (lambda folder: (folder / "daily.toml").unlink(), "daily.toml cannot be read"),
    ],
)
async def test_a_run_with_a_bad_file_is_held_and_tried_again_and_at_last_missed_with_its_cause(
    host: Host, daily: Path, break_it: Callable[[Path], object], why: str
) -> None:
    assert await host.look(NINE) == [RunState.STARTED]
    for day, mended in ((1, True), (2, False)):
        host.told.clear()
        break_it(daily.parent)
        held = NINE + day * DAY
        assert await host.look(held) == [RunState.HELD]
        assert await host.look(held + 10 * timedelta(seconds=1)) == [], "a pause"
        assert await host.look(held + MINUTE) == [RunState.HELD]
        assert len(host.told) == 1, "a cause is told once"
        assert any(each in host.told[0].message for each in why.split("|")), host.told[0].message
        if mended:
            people(daily.parent)
            written(daily, DAILY)
            assert await host.look(held + 2 * MINUTE) == [RunState.STARTED]
        else:
            assert await host.look(held + 15 * MINUTE) == [RunState.MISSED]
            assert any(each in host.told[1].message for each in why.split("|"))
    assert list(await host.calls()) == ["daily-2026-03-02-0900", "daily-2026-03-03-0900"]


async def test_a_cut_run_that_is_too_late_tells_that_its_calls_are_held(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    dies = Dies(7)
    with pytest.raises(StoreUnavailableError):
        await one.over(dies.over(one.queue.store)).look(NINE)
    assert await other.look(NINE + 16 * MINUTE) == [RunState.CUT]
    assert "voiceflow resume --batch daily-2026-03-02-0900 --staged" in other.told[0].message
    assert await other.ringing() == 0
    hold = (await read_batch(other.queue.store, "default", "daily-2026-03-02-0900")).hold
    assert hold is not None
    await other.queue.resume(batch_id="daily-2026-03-02-0900")
    assert await other.ringing() == 0
    assert await other.queue.release_staged("daily-2026-03-02-0900") > 0
    assert await other.ringing() > 0


async def test_other_campaigns_with_the_same_words_are_still_compared(host: Host, daily: Path) -> None:
    twin = written(daily.with_name("twin.toml"), DAILY)
    other = Host(host.queue, host.clock, (twin,))
    await other.look()
    await host.look(NINE)
    assert await other.look() == [RunState.HELD]
    assert "as another batch" in other.told[0].message


async def test_the_files_are_read_anew_for_each_run(host: Host, daily: Path) -> None:
    await host.look(NINE)
    people(daily.parent, PEOPLE[:1])
    rewritten(daily, DAILY.replace("0 9", "30 9").replace("Hello", "Good morning"), NINE + 40 * MINUTE)
    assert await host.look(NINE + 41 * MINUTE) == [], "who changes a time that has passed means the next day"
    assert await host.look(NINE + DAY) == [], "and nothing was missed"
    assert await host.look(NINE + DAY + 31 * MINUTE) == [RunState.STARTED]
    assert await host.calls() == {"daily-2026-03-02-0900": list(PEOPLE), "daily-2026-03-03-0930": [PEOPLE[0]]}


@pytest.mark.parametrize(
    ("cron", "seen", "done"),
    [
        ("0 9,17 * * *", 4, [RunState.STARTED]),
        ("0,2 9 * * *", 4, [RunState.STARTED]),
        ("0 9,17 * * *", 16, [RunState.MISSED]),
        ("0 10 * * *", 4, []),
    ],
)
async def test_a_run_that_is_due_before_and_after_a_change_of_the_times_is_started(
    host: Host, daily: Path, cron: str, seen: int, done: list[RunState]
) -> None:
    """The file is changed between the time of the run and the next look at it, as by a timer."""
    rewritten(daily, DAILY.replace("0 9 * * *", cron), NINE + 3 * MINUTE)
    assert await host.look(NINE + seen * MINUTE) == done
    assert list(await host.calls()) == ["daily-2026-03-02-0900"] * done.count(RunState.STARTED)
    assert await host.look() == []


async def test_a_run_that_another_process_settles_during_a_change_stays_settled(host: Host, daily: Path) -> None:
    rewritten(daily, DAILY.replace("0 9 *", "0 9,17 *"), NINE + 3 * MINUTE)
    run, store = replace((await named(host)).times, at=NINE, state=RunState.STARTED, token=""), host.queue.store
    settled = list[bool]()

    async def settle(call: StoreCall) -> None:
        if call.name == "write" and not settled:
            settled.append(True)
            await store.write(BulkWrite(writes=(Write(puts=(run_put(store, run, NINE),)),)), now=NINE)

    assert await host.over(FaultyStore(store, before=settle)).look(NINE + 4 * MINUTE) == []
    assert (settled, (await named(host)).last, await host.calls()) == ([True], run, {})


MOVED = {
    "later": (DAILY, DAILY.replace("0 9 *", "0 18 *"), NINE + 9 * HOUR, "the cron was changed"),
    "a zone": (DAILY, DAILY.replace("UTC", "Atlantic/Azores"), NINE + HOUR, "the time zone was changed"),
    "both": (DAILY, DAILY.replace("0 9 *", "30 10 *").replace("UTC", "Etc/GMT+1"), NINE + 2.5 * HOUR, "the cron"),
    "other words": (DAILY, DAILY.replace("0 9 *", "0 18 *").replace("Hello", "Bye"), NINE + 9 * HOUR, "the cron"),
    "often": (DAILY, DAILY.replace("0 9 *", "*/30 * *"), NINE + HOUR / 2, "the cron was changed"),
}
"""Schedules that are moved after the run of the day: before, after, the time of the next run, and what is told."""


@pytest.mark.parametrize("how", MOVED)
async def test_who_was_called_today_is_called_by_a_moved_schedule_only_with_again(
    host: Host, daily: Path, how: str
) -> None:
    before, after, at, why = MOVED[how]
    rewritten(daily, before, NINE - HOUR)
    assert await host.look(NINE) == [RunState.STARTED]
    first = await host.calls()
    rewritten(daily, after, NINE + MINUTE)
    assert await host.look(at) == [RunState.HELD], "and not started"
    said = host.told[-1].message
    assert "nobody is called: it would call the 5 rows of its file again" in said
    assert f"batch {host.told[0].batch_id}" in said
    assert why in said
    assert "again = true" in said
    assert await host.calls() == first
    rewritten(daily, after + "again = true\n", at + MINUTE)
    assert await host.look(at + MINUTE) == [RunState.STARTED]
    second = host.told[-1].batch_id
    assert await host.calls() == {**first, second: list(PEOPLE)}
    rewritten(daily, after, at + 2 * MINUTE)
    assert await host.look(at + DAY) == [RunState.STARTED] or how == "often"
    assert len({each.batch_id for each in host.told if each.state is RunState.STARTED}) > 2, "each has a batch"


async def test_a_moved_schedule_that_nobody_ordered_again_is_told_as_repeated(host: Host, daily: Path) -> None:
    await host.look(NINE)
    rewritten(daily, DAILY.replace("0 9 *", "0 18 *"), NINE + MINUTE)
    await host.look(NINE + 9 * HOUR)
    assert await host.look(NINE + 9 * HOUR + 15 * MINUTE) == [RunState.REPEATED]
    assert host.told[-1].message == host.told[-2].message
    assert not host.told[-1].is_undone
    assert await host.look(NINE + DAY + 9 * HOUR) == [RunState.STARTED]
    assert list(await host.calls()) == ["daily-2026-03-02-0900", "daily-2026-03-03-1800"]


@pytest.mark.parametrize(
    ("numbers", "done"),
    [(["+6587654990", "+6587654991"], RunState.STARTED), ([PEOPLE[0], "+6587654990"], RunState.HELD)],
)
async def test_a_moved_schedule_calls_people_who_were_not_called_that_day(
    host: Host, daily: Path, numbers: list[str], done: RunState
) -> None:
    await host.look(NINE)
    people(daily.parent, numbers)
    rewritten(daily, DAILY.replace("0 9 *", "0 18 *"), NINE + MINUTE)
    assert await host.look(NINE + 9 * HOUR) == [done]
    if done is RunState.HELD:
        assert await host.look(NINE + 10 * HOUR) == [RunState.MISSED], "somebody is not called"


async def test_a_schedule_of_several_runs_a_day_may_move_one_of_them(host: Host, daily: Path) -> None:
    rewritten(daily, DAILY.replace("0 9 *", "0 9,18 *"), NINE - HOUR)
    await host.look(NINE)
    rewritten(daily, DAILY.replace("0 9 *", "0 9,19 *"), NINE + MINUTE)
    assert await host.look(NINE + 10 * HOUR) == [RunState.STARTED]
    rewritten(daily, DAILY.replace("0 9 *", "0 9,19,21 *"), NINE + 11 * HOUR)
    assert await host.look(NINE + 12 * HOUR) == [RunState.HELD], "the day had its two"


async def test_a_run_that_calls_nobody_says_so(host: Host, daily: Path) -> None:
    people(daily.parent, ["+6587654000,order-1"], column="destination,unique_key")
    assert await host.look(NINE) == [RunState.STARTED]
    assert await host.look(NINE + DAY) == [RunState.STARTED]
    assert [each.message for each in host.told] == [
        "1 enqueued, 0 duplicates, 0 bad", "nobody is called: 0 enqueued, 1 duplicate, 0 bad"
    ]  # fmt: skip


LIMITS = [
    ("true", 1, 3, True),
    ("true", 0, 1, False),
    ('"5 %"', 19, 1, True),
    ('"5 %"', 18, 1, False),
    ('"100 %"', 1, 9, True),
    ("2", 1, 2, True),
    ("2", 20, 3, False),
    ("0", 5, 1, False),
    ('"0 %"', 5, 0, True),
    ('"no"', 5, 1, False),
]
"""A limit of bad rows, how many rows of a file are good and bad, and whether the run starts: a day for each."""


async def test_bad_rows_are_left_out_up_to_a_limit_and_beyond_it_the_run_is_held(host: Host, daily: Path) -> None:
    for day, (skip_bad, good, bad, starts) in enumerate(LIMITS):
        host.told.clear()
        rewritten(daily, f"{DAILY}skip_bad = {skip_bad}\n", NINE - DAY)
        numbers = [f"+65876540{place:02}" for place in range(good)]
        people(daily.parent, ["k.A."] * (bad // 2) + numbers + ["k.A."] * (bad - bad // 2))
        due = NINE + day * DAY
        assert await host.look(due) == [RunState.STARTED if starts else RunState.HELD], (skip_bad, good, bad)
        (told,) = host.told
        assert (await host.calls()).get(f"daily-{due:%Y-%m-%d}-0900", []) == (numbers if starts else [])
        assert told.is_undone == (not starts)
        if starts:
            assert told.message.startswith(f"{good} enqueued, 0 duplicates, {bad} bad")
            assert len(told.left_out) == bad
            assert not bad or "k.A." in told.message
            assert told.as_json().get("counts") == {
                "rows": good + bad, "enqueued": good, "duplicates": 0, "suppressed": 0, "left_out": 0, "rejected": bad
            }  # fmt: skip
        else:
            assert f"{bad} of {count_of(good + bad, 'row')} cannot be called" in told.message
            people(daily.parent, numbers or ["+6587654099"])
            assert await host.look(due + MINUTE) == [RunState.STARTED], "corrected in time"
        assert (await named(host)).last.left_out == host.told[-1].left_out


async def test_the_last_runs_are_found_without_reading_the_runs_before_them() -> None:
    memory = MemoryStore()
    run = ScheduledRun(
        schedule="daily", queue="default", at=NINE, cron="0 9 * * *", time_zone="UTC", batch_id="b",
        state=RunState.STARTED,
    )  # fmt: skip
    for queue, schedule, place in product(("default", "default2", "north"), ("daily", "hourly"), range(30)):
        one = replace(run, queue=queue, schedule=schedule, at=NINE + place * HOUR)
        await run_records(memory).within(one.key[0]).put({one.key[1]: one})
    found: list[Record] = []

    class Counted(MemoryStore):
        async def records(self, wanted: Wanted, *, now: datetime) -> Mapping[str, Sequence[Record]]:
            records = await memory.records(wanted, now=now)
            found.extend(record for each in records.values() for record in each)
            return records

    last = [each.last for each in await read_schedules(Counted(), "default")]
    assert [(each.queue, each.schedule, each.at) for each in last] == [
        ("default", "daily", NINE + 29 * HOUR), ("default", "hourly", NINE + 29 * HOUR)
    ]  # fmt: skip
    assert len(await read_schedules(Counted())) == 6
    assert len(found) <= 2 * (3 + 6)


async def test_a_clock_that_was_ahead_stops_no_later_run(host: Host) -> None:
    assert await host.look(NINE) == [RunState.STARTED]
    host.clock.jump(-DAY - MINUTE)
    assert await host.look() == []
    assert await host.look(NINE - DAY) == [RunState.STARTED]
    assert await host.look(NINE) == [], "not again"
    assert await host.look(NINE + DAY) == [RunState.STARTED]


async def test_a_schedule_that_was_first_seen_by_a_clock_that_was_ahead_starts_no_run_of_before(
    host: Host, daily: Path
) -> None:
    written(daily.with_name("other.toml"), DAILY)
    other = Host(host.queue, host.clock, (daily.with_name("other.toml"),))
    assert await other.look(NINE + DAY - MINUTE) == []
    host.clock.jump(-DAY + 2 * MINUTE)
    assert await other.look() == [], "it was not there at nine"
    assert await other.look(NINE + DAY) == [RunState.STARTED]


async def test_a_file_that_was_written_by_a_clock_that_is_ahead_counts_from_when_it_is_seen(
    host: Host, daily: Path
) -> None:
    written(daily, DAILY.replace("0 9", "0 *"))
    await host.look(NINE)
    rewritten(daily, DAILY.replace("0 9", "*/20 *"), NINE + DAY)
    assert await host.look(NINE + 21 * MINUTE) == [], "who changes a time that has passed means the next one"
    assert await host.look(NINE + 41 * MINUTE) == [RunState.STARTED]


@pytest.mark.parametrize(
    ("hosts", "steps", "is_ordered"),
    [
        ("sqlite", (0, 4, 12), False),  # 0 is the write that lets the calls ring
        *(
            pytest.param(store, range(1, 80), is_ordered, marks=pytest.mark.slow)
            for store, is_ordered in product(DURABLE, (False, True))
        ),
    ],
    indirect=["hosts"],
)
async def test_who_stood_still_at_any_step_lets_nobody_ring_later_than_misfire(
    hosts: tuple[Host, Host], steps: Sequence[int], is_ordered: bool
) -> None:
    """It wakes after the end of the run's misfire, by its time or by an order: what it has stored by then rings."""
    host = hosts[0]
    await host.look(NINE)
    await host.queue.cancel_batch("daily-2026-03-02-0900")
    store, step = host.queue.store, 0
    for step in steps:
        calls, may_ring, at = 0, False, NINE + (step + 1) * DAY
        if is_ordered:
            await host.look(at + 3 * HOUR)
            at = host.clock.now()
            await run_now(host).do()

        async def stand_still(call: StoreCall, frozen: int = step, batch: str = f"daily-{at:%Y-%m-%d-%H%M}") -> None:
            nonlocal calls, may_ring
            calls += 1
            writes = call.arguments[0].writes if call.name == "write" else ()
            lets_ring = any(drop.namespace == STARTS for write in writes for drop in write.drops)
            if (calls == frozen) if frozen else lets_ring:
                may_ring = len(await host.queue.find(batch_id=batch)) == 5 and not await starts_of(store, "default")
                host.clock.advance(60 * MINUTE)
                for _ in range(5):  # what wakes first, such as the renewal of the claim, comes first
                    await anyio.sleep(0.002)

        slow = host.over(FaultyStore(store, before=stand_still))
        await slow.look(at)
        await host.look()
        if calls < step:
            break
        last = (await named(host)).last
        assert (last.at, last.is_open) == (at, False)
        assert await host.ringing() == 5 * may_ring, (step, last.state, last.message)
        assert (last.state is RunState.STARTED) == may_ring, (step, last.state, last.message)
        await host.queue.cancel_batch(last.batch_id)
    assert step >= 12


async def test_what_is_begun_is_completed_before_a_stop_and_cut_after_the_grace(hosts: tuple[Host, Host]) -> None:
    one, other = hosts

    async def stop(call: StoreCall) -> None:
        if call.name == "write" and len(await one.queue.find()) > 5 * day:
            slow.scheduler.stop(grace=grace)
            await anyio.lowlevel.checkpoint()

    for grace, day in ((60.0, 0), (0.0, 1)):
        slow = one.over(FaultyStore(one.queue.store, before=stop))
        one.clock.advance(NINE + day * DAY - one.clock.now())
        with anyio.fail_after(10):
            await slow.scheduler.run()
        last = (await named(one)).last
        assert last.state is (RunState.STARTED if grace else RunState.STARTING)
    assert await other.look(NINE + DAY + MINUTE) == [RunState.STARTED], "the claim was given back"
    assert (await other.calls())["daily-2026-03-03-0900"] == list(PEOPLE)


async def test_a_running_schedule_starts_at_the_second(host: Host, daily: Path) -> None:
    written(daily, DAILY.replace("0 9 *", "* * *"))
    started: list[datetime] = []

    def tell(run: ScheduledRun) -> None:
        assert run.state is RunState.STARTED
        started.append(host.clock.now())
        if len(started) == 2:
            scheduler.stop()

    store = FaultyStore(host.queue.store)
    scheduler = Scheduler(CallQueue(store), host.files, tell=tell)
    host.clock.advance(timedelta(seconds=30))
    async with time_passing(host.clock, stores=[store]):
        await scheduler.run()
    assert [at.replace(second=0, microsecond=0) for at in started][1] - NINE in {0 * MINUTE, MINUTE}
    assert all(at.second < 5 for at in started[1:])


# -- what people order ---------------------------------------------------------------------------------------------


def ana(host: Host) -> Operator:
    return Operator(host.queue.store, host.queue.policy, "Ana")


def run_now(host: Host) -> RunNow:
    return RunNow(operator=ana(host), queue="default", schedule="daily")


def skip_next(host: Host) -> SkipNext:
    return SkipNext(operator=ana(host), queue="default", schedule="daily", note="a holiday")


def unskip(host: Host) -> Unskip:
    return Unskip(operator=ana(host), queue="default", schedule="daily")


@EACH_STORE
async def test_a_name_that_no_store_can_keep_is_that_of_no_schedule(hosts: tuple[Host, Host]) -> None:
    for name in ("\0", "\ud800", "x" * 5000):
        with pytest.raises(UnknownSubjectError, match="has no schedule"):
            await replace(skip_next(hosts[0]), schedule=name).question()


@EACH_STORE
async def test_a_run_that_a_person_skips_calls_nobody_and_the_next_one_starts(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    assert await one.look(NINE) == [RunState.STARTED]
    await skip_next(other).do((await skip_next(other).question()).version)
    with pytest.raises(ActionRefusedError, match="is skipped already"):
        await skip_next(one).question()
    known = await named(one)
    assert (known.last.at, known.last.state, known.following) == (NINE, RunState.STARTED, NINE + 2 * DAY)
    assert "a holiday (by Ana)" in known.later_in_words()
    assert [await host.look(NINE + DAY) for host in hosts] == [[], []]
    known = await named(one)
    assert (known.last.at, known.last.state, known.overdue_since) == (NINE + DAY, RunState.SKIPPED, None)
    assert await one.look(NINE + 2 * DAY) == [RunState.STARTED]
    assert list(await one.calls()) == ["daily-2026-03-02-0900", "daily-2026-03-04-0900"]
    assert [(each.action, each.name) for each in await entries_on(one.queue.store) if each.name == "Ana"] == [
        ("skip-run", "Ana")
    ]


@EACH_STORE
async def test_a_skip_is_taken_back_before_the_time_of_the_run(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    await one.look(NINE)
    with pytest.raises(ActionRefusedError, match="is not skipped"):
        await unskip(one).question()
    for _ in range(2):
        await skip_next(other).do()
        asked = (await unskip(one).question()).version
        told = await unskip(other).do()
        assert told.message.endswith("09:00:00 UTC: not skipped any more")
        with pytest.raises(ChangedSinceError):
            await unskip(one).do(asked)
        known = await named(one)
        assert (known.skip, known.following) == (None, NINE + DAY)
    assert await one.look(NINE + DAY) == [RunState.STARTED]
    assert list(await one.calls()) == ["daily-2026-03-02-0900", "daily-2026-03-03-0900"]
    await skip_next(one).do()
    assert await one.look(NINE + 2 * DAY) == []
    with pytest.raises(ActionRefusedError, match="is not skipped"):
        await unskip(one).do()


@pytest.mark.parametrize("seed", range(4))
async def test_in_whatever_order_people_act_the_right_run_is_named_and_skipped(
    daily: Path, tmp_path: Path, *, seed: int
) -> None:
    random, clock = Random(seed), ManualClock(NINE - MINUTE)
    store = MemoryStore(clock=clock)
    host = Host(CallQueue(store), clock, (daily,))
    await host.look()
    await host.look(NINE)
    skipped, ordered = set[datetime](), 0
    for _ in range(30):
        now = clock.now()
        runs = (NINE + day * DAY for day in range(40))
        expected = next(at for at in runs if at > now and at not in skipped)
        waits = {at for at in skipped if at > now}
        known = await named(host)
        assert known.following == expected, (now, skipped)
        assert f"the next run is at {in_words(expected)}" in known.later_in_words()
        match random.choice(["skip", "unskip", "now", "now", "later"]):
            case "skip" if not waits:
                assert in_words(expected) in (await skip_next(host).question()).will_not_be_called[0]
                done = await skip_next(host).do()
                assert done.documents[0]["at"] == rfc3339(expected)
                skipped.add(expected)
            case "unskip" if waits:
                done = await unskip(host).do()
                assert done.documents[0]["at"] == rfc3339(*waits)
                skipped -= waits
            case "now":
                asked = await run_now(host).question()
                assert asked.will_not_be_called[0].endswith(f"at {in_words(expected)}.")
                done = await run_now(host).do(asked.version)
                assert done.documents[0]["next_at"] == rfc3339(expected)
                ordered += 1
                assert await host.look(now + MINUTE) == [RunState.STARTED]
            case "later":
                for _ in range(random.choice([1, 8, 20])):
                    await host.look(clock.now() + 40 * MINUTE)
            case _:
                pass
    started = {at for day in range(40) if (at := NINE + day * DAY) <= clock.now()} - skipped
    assert len(await host.calls()) == len(started) + ordered


@pytest.mark.parametrize("is_taken_back", [False, True])
async def test_what_was_ordered_of_a_skip_outlives_a_rollback(
    daily: Path, tmp_path: Path, *, is_taken_back: bool
) -> None:
    clock = ManualClock(NINE - MINUTE)
    store = MemoryStore(clock=clock)
    host = Host(CallQueue(store), clock, (daily,))
    await host.look()
    await host.look(NINE)
    other = replace((await named(host)).last, schedule="other")
    await store.write(BulkWrite(writes=(Write(puts=(run_put(store, other, NINE),)),)), now=NINE)
    older = deepcopy(store.memory)
    machine = OrderedStore(store, lambda: JournalFiles(tmp_path))
    operator = replace(ana(host), store=cast("Store", machine))
    await replace(skip_next(host), operator=operator).do()
    if is_taken_back:
        await replace(unskip(host), operator=operator).do()
    store.memory = older
    host.clock.advance(MINUTE)
    await replace(skip_next(host), schedule="other").do()  # since then, on another machine
    await machine.give_again()
    found = {each.times.schedule: each.skip is not None for each in await read_schedules(store)}
    assert found == {"daily": not is_taken_back, "other": True}


async def test_a_run_that_moves_before_a_skipped_one_is_told_before_it_starts(host: Host, daily: Path) -> None:
    await host.look(NINE)
    await skip_next(host).do()
    rewritten(daily, DAILY.replace("0 9", "0 8"), NINE + MINUTE)
    assert await host.look(NINE + 2 * MINUTE) == []
    known = await named(host)
    assert (known.skip is not None, known.following) == (True, NINE + DAY - HOUR)
    assert [await host.look(NINE + DAY - HOUR), await host.look(NINE + DAY)] == [[RunState.STARTED], []]


async def test_a_skip_is_refused_from_when_a_process_begins_the_run(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    other.clock.advance(NINE - MINUTE - other.clock.now())
    store, skipped = FaultyStore(one.queue.store), list[bool]()

    async def skip(_: StoreCall) -> None:
        if len(skipped) < 100:
            skipped.append(False)
            with suppress(ActionRefusedError, ChangedSinceError):
                await skip_next(other).do()
                skipped[-1] = True

    store.before = skip
    began = one.over(store)
    assert await began.look(NINE) == []  # the skip came first
    assert skipped[0]
    assert not any(skipped[1:])
    assert await one.calls() == {}

    other.clock.advance(NINE + DAY - MINUTE - other.clock.now())
    store.before, leased = nothing, False
    asked = await skip_next(other).question()

    async def skip_later(call: StoreCall) -> None:
        nonlocal leased
        puts = call.arguments[0].writes[0].puts if call.name == "write" else ()
        if leased:
            with pytest.raises((ActionRefusedError, ChangedSinceError)):
                await skip_next(other).do(asked.version)
        leased = leased or any(put.namespace == LEASES for put in puts)

    store.before = skip_later
    assert await began.look(NINE + DAY) == [RunState.STARTED]
    assert leased


@EACH_STORE
async def test_a_run_that_a_person_orders_starts_once_beside_the_others(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    assert await one.look(NINE) == [RunState.STARTED]
    one.clock.advance(HOUR)
    other.clock.advance(NINE + HOUR - other.clock.now())
    versions = [(await run_now(host).question()).version for host in hosts]
    refused: list[Exception] = []

    async def order(host: Host, version: str) -> None:
        try:
            await run_now(host).do(version)
        except (ActionRefusedError, ChangedSinceError) as error:
            refused.append(error)

    async with anyio.create_task_group() as group:
        for host, version in zip(hosts, versions, strict=True):
            group.start_soon(order, host, version)
    assert len(refused) == 1, "of two orders at once, one is stored"
    states = [state for host in hosts for state in await host.look()]
    assert states == [RunState.STARTED]
    assert await one.look(NINE + DAY) == [RunState.STARTED]
    batches = ["daily-2026-03-02-0900", "daily-2026-03-02-1000", "daily-2026-03-03-0900"]
    assert await one.calls() == {each: list(PEOPLE) for each in batches}


async def test_what_nobody_would_start_is_not_ordered_and_an_order_that_nobody_took_is_missed(host: Host) -> None:
    with pytest.raises(UnknownSubjectError, match="no schedule 'weekly'"):
        await replace(run_now(host), schedule="weekly").question()
    host.clock.advance(timedelta(seconds=1))
    await run_now(host).do()
    with pytest.raises(ActionRefusedError, match="is not over: daily"):
        await run_now(host).do()
    ordered_at = host.clock.now()
    assert at(await named(host), ordered_at + MINUTE).overdue_since == ordered_at, "nobody has begun it"
    assert await host.look(ordered_at + 15 * MINUTE) == [RunState.MISSED, RunState.STARTED]
    missed = next(run for run in (await named(host)).runs if run.ordered_by)
    assert "could start it in time" in missed.message


async def test_a_run_that_nobody_started_is_told_beside_what_is_ordered_in_its_place(host: Host) -> None:
    host.clock.advance(21 * MINUTE)
    ordered_at = host.clock.now()
    await run_now(host).do()
    assert at(await named(host), ordered_at + MINUTE).next_at == NINE, "it is overdue still"
    assert await host.look(ordered_at + MINUTE) == [RunState.MISSED, RunState.STARTED]
    assert [(each.at, each.state) for each in (await named(host)).runs] == [
        (ordered_at, RunState.STARTED), (NINE, RunState.MISSED)
    ]  # fmt: skip


async def test_a_run_that_nobody_started_is_told_although_the_next_one_was_skipped(host: Host) -> None:
    host.clock.advance(21 * MINUTE)
    await skip_next(host).do()
    assert await host.look(NINE + DAY + HOUR) == [RunState.MISSED]


async def test_an_order_with_a_bad_file_is_held_and_starts_when_it_is_mended(host: Host, daily: Path) -> None:
    people(daily.parent, ["nobody"])
    assert await host.look(NINE) == [RunState.HELD]
    with pytest.raises(ActionRefusedError, match="held"):
        await run_now(host).do()
    people(daily.parent)
    assert await host.look(NINE + DAY) == [RunState.MISSED, RunState.STARTED]
    people(daily.parent, ["nobody"])
    host.clock.advance(HOUR)
    await run_now(host).do()
    assert await host.look() == [RunState.HELD]
    people(daily.parent)
    host.clock.advance(MINUTE)
    assert await host.look() == [RunState.STARTED]
    assert (await named(host)).last.ordered_by == "ordered by Ana"


WRONG: list[tuple[str, str | None]] = [
    (DAILY.replace("cron", "corn"), "corn is not an option of a campaign; did you mean cron"),
    (DAILY.replace('time_zone = "UTC"', ""), "cron: there is no time_zone"),
    (DAILY.replace("0 9 * * *", "0 9 * *"), "cron: '0 9 * *' is not a cron expression"),
    (DAILY.replace("UTC", "SGT"), "time_zone: 'SGT' is an abbreviation"),
    (DAILY + 'misfire = "0s"', "misfire: 0s is not above 0"),
    (DAILY + 'misfire = "15"', "misfire: '15' is not a duration: it has no unit"),
    (DAILY + 'rejects = "bad.csv"', "concerns one run"),
    (DAILY + 'leave-out-rows = "7"', "names rows of one file, and the next file has other people in them"),
    (DAILY.replace("cron = ", "# ") + "skip-bad = true", "concerns one run"),
    (DAILY + 'skip-bad = "5"\n', None),
    (
        DAILY + 'skip-bad = "lots"',
        "skip-bad: 'lots' is no limit of bad rows: give true, a number of rows, or a share",
    ),
    (DAILY + 'skip-bad = "101 %"', "no limit of bad rows"),
    (DAILY + "skip-bad = -1", "no limit of bad rows"),
    (DAILY + "skip-bad = 0.05", "no limit of bad rows"),
    (DAILY + 'again = "perhaps"', "again: 'perhaps' is neither yes nor no"),
    (DAILY.replace("cron = ", "misfire = ").replace("0 9 * * *", "15m"), "misfire: there is no cron"),
    (DAILY.replace('cron = "0 9 * * *"', ""), "has no cron, which says when"),
    (DAILY.replace('file = "people.csv"', ""), "has no file, which names the people"),
    (DAILY + f'batch = "{"x" * 40}"', "may have 32 characters"),
    (DAILY + 'say = "Hello"', "is not TOML"),
]
"""The definition of a schedule, and what is told of it."""


async def test_a_wrong_definition_is_told_by_its_field(host: Host, daily: Path) -> None:
    for content, why in WRONG:
        written(daily, content)
        (outlook,) = await host.scheduler.statuses()
        assert (outlook.problem is None) == (why is None), (content, outlook.problem)
        assert why is None or why in str(outlook.problem), content


async def test_two_files_of_one_name_are_refused(host: Host, daily: Path) -> None:
    content = DAILY.replace("people.csv", "../people.csv")
    twin = written(daily.parent / "north" / "daily.toml", content)
    found = await Host(host.queue, host.clock, (daily, twin)).scheduler.statuses()
    assert [each.problem is None for each in found] == [True, False]
    other = Host(host.queue, host.clock, (twin,))
    assert await other.look(NINE) == [], "of another command too: its people would be lost"
    assert [f"{twin} and {daily} are both named daily" in each for each in other.scheduler.problems.values()] == [True]
    assert await host.look() == [RunState.STARTED]
    written(twin, content + 'batch = "north"')
    assert (await Host(host.queue, host.clock, (daily, twin)).scheduler.statuses())[1].name == "north"
    written(twin, content)
    daily.rename(daily.with_name("old.toml"))  # noqa: ASYNC240 (in a moment)
    assert await other.look(NINE + DAY) == [RunState.STARTED], "a file that was moved is the same schedule"
