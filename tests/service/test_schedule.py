"""Schedules: each run starts once and whole, however many processes look, and whatever dies, waits or changes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import anyio.lowlevel
import pytest

from tests.contract.samples import ManualClock
from tests.support.faulty_store import Dies, FaultyStore, StoreCall
from tests.support.manual_time import time_passing
from tests.support.plays import plays_of
from tests.support.schedules import keep_runs
from tests.support.stores import DURABLE
from voiceflow_worker import CallQueue, SuppressionList, open_store
from voiceflow_worker.actions import ActionRefusedError, Operator, UnknownSubjectError
from voiceflow_worker.actions.queues import CancelBatch
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.campaigns import enqueue as enqueueing
from voiceflow_worker.campaigns.schedules import (
    RunState,
    Schedule,
    ScheduledRun,
    read_schedules,
)
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.reading import starts_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import STARTS
from voiceflow_worker.core.ports.store import Record, Wanted
from voiceflow_worker.errors import ChangedSinceError, StoreUnavailableError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import count_of, in_words
from voiceflow_worker.reporting.batches import read_batch
from voiceflow_worker.service.schedule import LEASE, Scheduler
from voiceflow_worker.service.schedule_actions import RunNow

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

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
    os.utime(new, times=(0, 0))
    new.replace(folder / "people.csv")


def written(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


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

    # -- moves: times are minutes after nine of the first day, or `2d+5`, or - for now --

    async def plays(self, moves: str) -> None:
        """Play moves, one after the other, on a schedule that is written as DAILY at first."""
        self.text = DAILY
        for move in moves.split(" | "):
            name, _, rest = move.partition(" ")
            await getattr(self, f"_{name}")(rest)

    @staticmethod
    def time_of(text: str) -> datetime:
        days, _, minutes = text.rpartition("d")
        return NINE + int(days or 0) * DAY + float(minutes or 0) * MINUTE

    async def _at(self, what: str) -> None:
        """A look at this time, and the states of the runs that it settles, by their first letters."""
        time, _, states = what.partition(" ")
        found = await self.look(None if time == "-" else self.time_of(time))
        assert [each.value[:2] for each in found] == states.split(), what

    async def _write(self, what: str) -> None:
        """Replace words of the file, or add a line to it, or take that away."""
        old, arrow, new = what.partition(" -> ")
        self.text = self.text.replace(old, new) if arrow else f"{self.text}{what}\n"
        written(self.files[0], self.text)

    async def _people(self, what: str) -> None:
        people(self.files[0].parent, what.split(" ")[1:], column=what.split(" ", maxsplit=1)[0])

    async def _batches(self, what: str) -> None:
        """The batches so far, without their months."""
        found = await self.calls()
        assert [each.removeprefix("daily-2026-03-") for each in found] == what.split()

    async def _called(self, what: str) -> None:
        """How many calls the batches have."""
        assert [len(each) for each in (await self.calls()).values()] == [int(each) for each in what.split()]

    async def _told(self, what: str) -> None:
        assert what in self.told[-1].message, self.told[-1].message

    async def _said(self, what: str) -> None:
        assert any(what in each.message for each in self.told)

    async def _clock(self, what: str) -> None:
        """The clock is put to a time."""
        self.clock.jump(self.time_of(what) - self.clock.now())

    async def _skip(self, _: str) -> None:
        batch = (await named(self)).next_batch
        await CancelBatch(operator=ana(self), queue="default", batch=batch, note="a holiday").do()

    async def _suppress(self, number: str) -> None:
        await SuppressionList(self.queue.store).add(number, reason="asked for it")

    async def _allow(self, number: str) -> None:
        """The number may be called again, and the process starts anew."""
        await SuppressionList(self.queue.store).remove(number)
        self.__post_init__()

    async def _order(self, refused: str) -> None:
        """Ana orders a run; or is refused with these words."""
        if not refused:
            await run_now(self).do()
            return
        with pytest.raises(ActionRefusedError, match=refused):
            await run_now(self).do()

    async def _known(self, what: str) -> None:
        """At a time, whose run is overdue, and which follows."""
        now, overdue, following = (None if each == "-" else self.time_of(each) for each in what.split())
        assert now is not None
        known = at(await named(self), now)
        assert (known.overdue_since, known.following) == (overdue, following)

    async def _runs(self, what: str) -> None:
        """The states of all runs that are kept, the newest first."""
        assert [each.state.value[:2] for each in (await named(self)).runs if not each.is_open] == what.split()

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
    assert await hosts[0].ringing() == 5, "who was not called for two days is called once"
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
        assert done == ([RunState.STARTED] if step < 12 else []), step
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
            assert await other.look() == [RunState.HELD]
            assert "an import of batch daily-2026-03-02-0900 has not ended" in other.told[-1].message

    put(PEOPLE)
    other.clock.advance(MINUTE)
    slow = one.over(FaultyStore(one.queue.store, before=stand_still))
    assert await slow.look(NINE) in ([], [RunState.HELD]), "as the other one left it"
    assert stood
    assert await other.calls() == {"daily-2026-03-02-0900": list(PEOPLE[:2])}
    assert await other.ringing() == 0, "the two that were stored of the old file stay held"
    await other.queue.discard_staged("daily-2026-03-02-0900")
    assert await other.look(NINE + 5 * MINUTE) == [RunState.STARTED]
    assert await other.ringing() == 2


PLAYS = plays_of(Path(__file__).with_name("schedule_plays.txt"))


@pytest.mark.parametrize("play", PLAYS)
async def test_a_schedule_starts_its_runs(host: Host, play: str) -> None:
    await host.plays(PLAYS[play])


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


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda folder: (folder / "people.csv").unlink(), "people.csv cannot be read"),
        (lambda folder: people(folder, column="phone"), "destination"),
        (lambda folder: people(folder, ["+6587654000", "12"]), "1 row|destination"),
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


async def test_a_run_says_whom_columns_call_and_with_a_filter_of_two_readings_calls_nobody(
    host: Host, daily: Path
) -> None:
    lines = [f"{number},{'yes' if at else ''}" for at, number in enumerate(PEOPLE)]
    people(daily.parent, lines, column="destination,Attending!")
    assert await host.look(NINE) == [RunState.STARTED]
    assert "; Attending!: yes 4, empty 1; partly filled: Attending! 4 of 5" in host.told[0].message
    written(daily, f'{DAILY}leave-out = "attending!=yes"\n')
    assert await host.look(NINE + DAY) == [RunState.HELD]
    assert "leave_out: 'attending!=yes' has two readings" in host.told[1].message
    written(daily, f'{DAILY}leave-out = [{{ column = "Attending!", value = "yes" }}]\n')
    assert await host.look(NINE + DAY + MINUTE) == [RunState.STARTED]
    assert {batch: len(jobs) for batch, jobs in (await host.calls()).items()} == {
        "daily-2026-03-02-0900": 5, "daily-2026-03-03-0900": 1
    }  # fmt: skip


async def test_a_cut_run_that_is_too_late_tells_that_its_calls_are_held(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    dies = Dies(7)
    with pytest.raises(StoreUnavailableError):
        await one.over(dies.over(one.queue.store)).look(NINE)
    assert await other.look(NINE + 16 * MINUTE) == [RunState.MISSED]
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


async def test_two_machines_with_other_times_start_their_own(hosts: tuple[Host, Host], daily: Path) -> None:
    """While a change is copied from one machine to the other."""
    one, other = hosts
    new = written(daily.with_name("new.toml"), DAILY.replace("0 9", "5 9") + 'batch = "daily"\nagain = true\n')
    other = Host(other.queue, other.clock, (new,))
    daily.rename(daily.with_name("old.toml"))  # noqa: ASYNC240 (in a moment)
    one = Host(one.queue, one.clock, (written(daily.with_name("old.toml"), DAILY + 'batch = "daily"\n'),))
    for minute in range(-3, 9):
        for host in (one, other):
            await host.look(NINE + minute * MINUTE)
    assert list(await one.calls()) == ["daily-2026-03-02-0900", "daily-2026-03-02-0905"]


async def test_a_file_of_people_is_read_when_it_stands_still(host: Host, daily: Path) -> None:
    file, lines = daily.parent / "people.csv", ["destination", *PEOPLE]
    file.write_text("\n".join(lines[:2]))

    async def write_on(seconds: float, *, sleep: Callable[[float], Awaitable[None]] = host.clock.sleep) -> None:
        await sleep(seconds)
        if len(lines) > 2 and host.clock.now() > NINE + timedelta(seconds=8 * (7 - len(lines))):
            file.write_text("\n".join([*file.read_text().splitlines(), lines.pop(2)]))

    host.clock.sleep = write_on  # type: ignore[method-assign]
    assert await host.look(NINE) == [RunState.STARTED]
    assert await host.calls() == {"daily-2026-03-02-0900": list(PEOPLE)}
    assert host.clock.now() > NINE + timedelta(seconds=40)


WAITING: list[tuple[str, bool, int, str]] = [
    ("", False, 5, "5 calls of earlier runs ended: the next run was due"),
    ("", True, 20, ""),
    ('valid-for = "1d"\n', False, 20, ""),
    ('valid-for = "45m"\n', False, 5, ""),
]
"""What a schedule says more, whether its runs call others, how many ring after four, and what the last one tells."""


@EACH_STORE
@pytest.mark.parametrize("case", WAITING)
async def test_who_waits_until_the_next_run_that_calls_them_is_called_by_that_one_alone(
    hosts: tuple[Host, Host], daily: Path, case: tuple[str, bool, int, str]
) -> None:
    host, (more, differs, ring, told) = hosts[0], case
    written(daily, DAILY.replace("0 9", "0 *") + more)
    await host.queue.hold(reason="a hold over some runs")
    for hour in range(4):
        people(daily.parent, [f"{number[:-2]}{hour * differs}{number[-1]}" for number in PEOPLE])
        assert await host.look(NINE + hour * HOUR) == [RunState.STARTED]
    await host.queue.resume()
    assert await host.ringing() == ring
    assert told in host.told[-1].message
    states = Counter(job.reason for job in await host.queue.find(states=[JobState.EXPIRED]))
    assert states == ({"the next run was due": 15} if told else {})


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
        written(daily, f"{DAILY}skip_bad = {skip_bad}\n")
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
    for queue, schedule in product(("default", "default2", "north"), ("daily", "hourly")):
        one = replace(run, queue=queue, schedule=schedule)
        await keep_runs(memory, *(replace(one, at=NINE + place * HOUR) for place in range(30)))
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
    assert len(found) <= 3 * (2 + 6)


async def test_a_schedule_that_was_first_seen_by_a_clock_that_was_ahead_starts_no_run_of_before(
    host: Host, daily: Path
) -> None:
    written(daily.with_name("other.toml"), DAILY)
    other = Host(host.queue, host.clock, (daily.with_name("other.toml"),))
    assert await other.look(NINE + DAY - MINUTE) == []
    host.clock.jump(-DAY + 2 * MINUTE)
    assert await other.look() == [], "it was not there at nine"
    assert await other.look(NINE + DAY) == [RunState.STARTED]


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
    await host.queue.cancel_batch("daily-2026-03-02-0900", planned=True)
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
        await host.queue.cancel_batch(last.batch_id, planned=True)
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
        assert (last.at, last.state) == (NINE, RunState.STARTED), (grace, "a run that was cut is not told")
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


async def skip(host: Host, batch: str | None = None) -> CancelBatch:
    batch = batch or (await named(host)).next_batch
    return CancelBatch(operator=ana(host), queue="default", batch=batch, note="a holiday")


@EACH_STORE
async def test_a_name_that_no_store_can_keep_is_that_of_no_schedule(hosts: tuple[Host, Host]) -> None:
    for name in ("\0", "\ud800", "x" * 5000):
        with pytest.raises(UnknownSubjectError, match="has no schedule"):
            await replace(run_now(hosts[0]), schedule=name).question()


@EACH_STORE
async def test_a_run_that_a_person_skips_calls_nobody_and_the_next_one_starts(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    assert await one.look(NINE) == [RunState.STARTED]
    asked = await (await skip(other)).question()
    assert asked.title == f"Skip the run of daily at {in_words(NINE + DAY)}?"
    assert f"The people of the run of daily at {in_words(NINE + DAY)}." in asked.will_not_be_called
    await (await skip(other)).do(asked.version)
    known = await named(one)
    assert (known.last.at, known.last.state, known.following) == (NINE, RunState.STARTED, NINE + 2 * DAY)
    assert "a holiday (by Ana)" in known.later_in_words()
    assert [await host.look(NINE + DAY) for host in hosts] == [[RunState.SKIPPED], []]
    known = await named(one)
    assert (known.last.at, known.last.state, known.overdue_since) == (NINE + DAY, RunState.SKIPPED, None)
    assert await one.look(NINE + 2 * DAY) == [RunState.STARTED]
    assert list(await one.calls()) == ["daily-2026-03-02-0900", "daily-2026-03-04-0900"]
    assert [(each.action, each.name) for each in await entries_on(one.queue.store) if each.name == "Ana"] == [
        ("cancel", "Ana")
    ]


async def test_a_skip_at_any_step_of_a_run_leaves_nobody_to_call(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    for step in range(1, 99):
        at, calls = NINE + (step - 1) * DAY, 0

        async def skip_then(_: StoreCall, at: datetime = at, step: int = step) -> None:
            nonlocal calls
            calls += 1
            if calls == step:
                await other.queue.cancel_batch(f"daily-{at:%Y-%m-%d}-0900", planned=True)

        done = await one.over(FaultyStore(one.queue.store, before=skip_then)).look(at)
        if calls < step:
            break
        assert done in ([RunState.SKIPPED], [RunState.STARTED]), (step, one.told)
        assert await one.ringing() == 0, step
    assert step > 12


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
