"""A copy of a store has all of it, wherever it was cut short, and nothing of the old store is lost or worked on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.contract.samples import NOW, ManualClock, full_job, sample_job
from tests.contract.writing import new, next_of, results_of, stored, to, told
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.stores import SERVERS
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from voiceflow_worker import CallPolicy, CallQueue, open_store
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.queues import Resume
from voiceflow_worker.backends.local_journal import JournalFiles, journal_folder
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.backends.registry import backend_for
from voiceflow_worker.core import store_copy
from voiceflow_worker.core.audit import Actor, Interface
from voiceflow_worker.core.base.identity import QueueNames, original_id, queue_put
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import hold_until_left
from voiceflow_worker.core.outcomes.outbox import positions
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.controls import limits_put
from voiceflow_worker.core.ports.reads import ById, Listing
from voiceflow_worker.core.ports.store import (
    CLOSED,
    CLOSED_KEY,
    BulkWrite,
    Delete,
    Drop,
    Page,
    Put,
    Result,
    Write,
    WriteResult,
    tally_change,
)
from voiceflow_worker.core.rollback import HELD, HISTORIES
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.store_copy import CALLS, COPIES, KEYS, StoreCopy, copy_of, copyable
from voiceflow_worker.core.writes import WRITERS
from voiceflow_worker.errors import (
    InvalidInputError,
    StoreClosedError,
    StoreError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import THEN
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.settings import load_settings

pytestmark = pytest.mark.anyio
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ME = Actor(name="Mary")
STATES = [state for state in JobState if state not in {JobState.LEASED, JobState.SENDING}]
QUEUES, BATCHES = ("default", "reminders"), ("spring", "autumn", None)
RECORDS = (
    "suppressed",
    "audit",
    "named-start",
    "schedule-run",
    "escalation",
    "upload",
    "row",
    "hook-waiting",
    "menu",
)
Opened = Callable[[], AbstractAsyncContextManager[Store]]


async def furnish(store: Store, amount: int) -> None:
    """Give a store calls in every state, and what else a store may have."""
    jobs = list(map(job_of, range(1, amount + 1)))
    for start in range(0, amount, 100):
        await results_of(store, *[new(job, puts=(queue_put(job.queue),)) for job in jobs[start : start + 100]])
    ended = [next_of(job, state=JobState.COMPLETED) for job in jobs[::9]]
    await results_of(
        store, *[to(job, end, events=(told(end), told(end))) for job, end in zip(jobs[::9], ended, strict=True)]
    )
    gone = [Write(changes=(Delete(job, NOW + DAY, tally_change(job, None)),)) for job in ended[::2]]
    assert set(await results_of(store, *gone)) == {Result.DONE}
    kept = [Put(name, f"g{n}", f"{n} is kept ü", None) for name in RECORDS for n in range(amount // 4)]
    kept += [Put(name, "many", str(n), NOW + DAY, member=f"m{n}") for name in RECORDS for n in range(amount // 4)]
    kept += [Put("over", "g", "over", NOW), limits_put("default", Limits(rate=3, max_active=10))]
    for start in range(0, len(kept), 500):
        await results_of(store, Write(puts=tuple(kept[start : start + 500])))
    await hold_until_left(store, "default", batch_id="spring", reason="wait for spring")


def job_of(number: int) -> Job:
    own = sample_job(
        number,
        queue=QUEUES[number % 2],
        state=STATES[number % len(STATES)],
        batch_id=BATCHES[number % 3],
        unique_key=f"key {number}" if number % 2 else None,
        priority=number % 3,
        active_until=NOW + DAY if number % 5 == 0 else None,
    )
    if number % 7:
        return own
    same = {"id", "queue", "state", "batch_id", "unique_key", "destination", "revision"}
    return replace(full_job(), **{name: getattr(own, name) for name in same})


async def all_of(store: Store) -> dict[str, Any]:
    """What a store has, as its port tells it, but what it knows of itself alone."""
    found: dict[str, Any] = {}
    for queue in await QueueNames(store).known():
        jobs = await store.jobs(Listing(queue=queue, limit=None), now=NOW)
        found[f"calls of {queue}"] = jobs
        batches = [*sorted({job.batch_id for job in jobs if job.batch_id}), None]
        found[f"totals of {queue}"] = dict(zip(batches, await store.totals(queue, batches=batches), strict=True))
        pages = [page async for page in copyable(store).tombstones(queue, now=NOW)]
        found[f"keys of {queue}"] = sorted((each for page in pages for each in page), key=lambda each: each[0].id)
    for name in (await copyable(store).contents()).namespaces:
        if name not in {COPIES, CLOSED, HISTORIES} and (
            records := (await store.records({name: Page(limit=10**6)}, now=NOW))[name]
        ):
            found[name] = records
    return found


def counted(found: dict[str, Any]) -> dict[str, int]:
    """The number of things that a store has, by kind."""
    names = {name: name.partition(" of ")[0] for name in found if not name.startswith("totals")}
    counts = Counter[str]()
    for name, kind in names.items():
        counts[{"keys": KEYS}.get(kind, kind)] += len(found[name])
    return +counts


async def held_reason(store: Store, queue: str) -> str:
    gate = (await gates_at(store, queue, [None]))[None]
    assert gate is not None
    return gate.reason


def of(store: Store) -> Opened:
    return lambda: nullcontext(store)


def opening(url: str, clock: ManualClock) -> Opened:
    if url == "memory://":
        return of(MemoryStore(clock=clock))
    return lambda: backend_for(url)(url, clock=clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


PAIRS = [pair for pair in permutations(("memory", "sqlite", *SERVERS), 2) if set(pair) != {"memory", "redis"}]


@pytest.mark.parametrize("pair", [pytest.param(pair, id="-".join(pair)) for pair in PAIRS])
async def test_a_copy_has_all_of_a_store(pair: tuple[str, str], fresh_url: Callable[[str], str]) -> None:
    await check_copy(pair, fresh_url, 300)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "pair", [pytest.param(pair, id="-".join(pair)) for pair in permutations(("sqlite", "redis", "postgres"), 2)]
)
async def test_a_copy_has_all_of_a_store_with_20000_calls(
    pair: tuple[str, str], fresh_url: Callable[[str], str]
) -> None:
    await check_copy(pair, fresh_url, 20_000)


async def check_copy(pair: tuple[str, str], fresh_url: Callable[[str], str], amount: int) -> None:
    clock = ManualClock()
    source, target = (opening(fresh_url(kind), clock) for kind in pair)
    async with source() as old:
        await furnish(old, amount)
        before = await all_of(old)
        last = max([event.sequence for queue in QUEUES for event in await old.events(queue, limit=10**6)])
        copy = StoreCopy(old, "the new store")
        counts = await copy.run(target, ME, within=MINUTE)
        after = await all_of(old)
        async with target() as made:
            copied = await all_of(made)
            assert copied.keys() == after.keys()
            for name, has in after.items():
                assert copied[name] == has, name
            assert original_id(made.id) == old.id != made.id
            assert counts is not None
            assert counts == counted(copied)
            assert counts[CALLS] == sum(len(before[f"calls of {queue}"]) for queue in QUEUES) > amount * 0.9
            assert counts[KEYS] == sum(len(before[f"keys of {queue}"]) for queue in QUEUES) > amount / 60
            ordered = {name for name in after if after[name] != before.get(name)}
            assert ordered == {"gate", "audit"}
            # It is held, and goes on where the old one was.
            for queue in QUEUES:
                assert "copied from" in (await held_reason(made, queue))
                assert not await made.lease(queue, worker_id="w", limit=1, until=NOW + MINUTE, now=NOW)
            (job,) = await stored(made, sample_job(10**6))
            end = next_of(job, state=JobState.EXPIRED)
            await results_of(made, to(job, end, events=(told(end),)))
            (event,) = await made.events("default")
            assert event.sequence > last
            with pytest.raises(StoreClosedError, match="copied to the new store"):
                await stored(old, sample_job(10**6))
            assert await copy.run(target, ME, within=MINUTE) is None


# --- cut short, and repeated ---


class Killed(BaseException):
    """The process that copies is killed here."""


class Cut:
    """Stores whose process is killed before or after the `at`-th thing that it writes."""

    def __init__(self, at: int, *, before: bool) -> None:
        self.left = at
        self._before = before

    def through(self, opened: Opened) -> Opened:
        @asynccontextmanager
        async def cut() -> AsyncGenerator[Store]:
            async with opened() as store:
                with pytest.MonkeyPatch.context() as patched:
                    for name in ("write", "adopt"):
                        patched.setattr(store, name, partial(self._do, getattr(store, name)))
                    yield store

        return cut

    async def _do(self, work: Callable[..., Awaitable[object]], *arguments: object, **named: object) -> object:
        self.left -= 1
        if self.left == 0 and self._before:
            raise Killed
        done = await work(*arguments, **named)
        if self.left == 0:
            raise Killed
        return done


async def cut_and_repeated(source: Opened, target: Opened, cuts: Sequence[Cut]) -> None:
    """Copy, as it is killed; then copy once more, and the new store has all of the old one."""
    for cut in cuts:
        with suppress(Killed):
            async with cut.through(source)() as old:
                await StoreCopy(old, "the new store").run(cut.through(target), ME, within=MINUTE)
            return  # there are no more writes than that
        async with target() as made:
            assert not await made.lease("default", worker_id="w", limit=9, until=NOW + MINUTE, now=NOW)
    async with source() as old:
        counts = await StoreCopy(old, "the new store").run(target, ME, within=MINUTE)
        async with target() as made:
            copied = await all_of(made)
            assert copied == await all_of(old)
            assert counts is None or counts == counted(copied)
        assert len(await old.records({"audit": Page(group="*")}, now=NOW)) == 1


@pytest.mark.parametrize("before", [True, False], ids=["before it is written", "after it"])
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_copy_that_was_killed_anywhere_ends_when_it_is_repeated(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, *, step: int, before: bool
) -> None:
    monkeypatch.setattr(store_copy, "PAGE", 25)
    writes = 1
    whole = False
    while not whole:
        source, target = opening("memory://", clock), opening("memory://", clock)
        async with source() as old:
            await furnish(old, 100)
        cut = Cut(writes, before=before)
        await cut_and_repeated(source, target, [cut])
        whole = cut.left > 0
        writes += step
    assert writes > 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", *SERVERS])
async def test_a_copy_that_was_killed_several_times_ends_when_it_is_repeated(
    kind: str, clock: ManualClock, fresh_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_copy, "PAGE", 25)
    chosen = random.Random(kind)
    for _ in range(8):
        source, target = opening("memory://", clock), opening(fresh_url(kind), clock)
        async with source() as old:
            await furnish(old, 250)
        cuts = [Cut(chosen.randrange(1, 45), before=chosen.random() < 0.5) for _ in range(3)]
        await cut_and_repeated(source, target, cuts)


# --- refused, and given up ---


async def test_a_store_with_something_in_it_is_not_copied_into_and_nothing_changes(clock: ManualClock) -> None:
    has = {
        "calls": new(sample_job(1), puts=(queue_put("default"),)),
        "suppressed": Write(puts=(Put("suppressed", "+6587654321", "{}", None),)),
    }
    for what, write in has.items():
        old, other = MemoryStore(clock=clock), MemoryStore(clock=clock)
        await furnish(old, 20)
        await results_of(other, write)
        before = await all_of(other)
        with pytest.raises(InvalidInputError, match=f"not empty: it has .*{what}"):
            await StoreCopy(old, other.url).run(of(other), ME, within=MINUTE)
        assert await all_of(other) == before
        await stored(old, sample_job(10**6))  # it is neither held nor closed


async def test_a_copy_goes_to_one_store_and_takes_no_other_copy(clock: ManualClock) -> None:
    old, made, other = (MemoryStore(clock=clock) for _ in range(3))
    await furnish(old, 20)
    with pytest.raises(Killed):
        await StoreCopy(old, "made").run(Cut(2, before=True).through(of(made)), ME, within=MINUTE)
    with pytest.raises(InvalidInputError, match="is copied to made, not to other: nothing was changed"):
        await StoreCopy(old, "other").run(of(other), ME, within=MINUTE)
    with pytest.raises(StoreClosedError, match=r"a copy of .* is being written into it"):
        await StoreCopy(made, "other").run(of(other), ME, within=MINUTE)
    await StoreCopy(old, "made").run(of(made), ME, within=MINUTE)
    await furnish(other, 20)
    with pytest.raises(InvalidInputError, match="not empty: it has a copy of"):
        await StoreCopy(other, "made").run(of(made), ME, within=MINUTE)


@pytest.mark.parametrize("state", [JobState.LEASED, JobState.SENDING])
async def test_calls_that_are_being_sent_are_waited_for_and_then_the_copy_is_refused(state: JobState) -> None:
    old, made = MemoryStore(), MemoryStore()
    now = old.clock.now()
    (job,) = await stored(old, sample_job(1, state=state, due_at=now + DAY))
    await results_of(old, Write(puts=(queue_put("default"),)))
    copy = StoreCopy(old, made.url)
    with pytest.raises(InvalidInputError, match=f"1 call of queue default still {state}"):
        await copy.run(of(made), ME, within=timedelta(0))
    assert "copied from" in await held_reason(old, "default")
    doubted = next_of(job, state=JobState.IN_DOUBT)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(copy.run, of(made), ME, within=MINUTE))
        await anyio.sleep(0.05)
        await results_of(old, to(job, doubted))
    assert list(await made.jobs(Listing(queue="default"), now=now)) == [doubted]


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("meanwhile", ["another queue", "a resume"])
async def test_every_queue_of_the_copy_is_held_whatever_came_while_it_was_closed(
    meanwhile: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, *, is_killed: bool
) -> None:
    old, made = MemoryStore(clock=clock), MemoryStore(clock=clock)
    await furnish(old, 3)
    write, came = old.write, False

    async def first(bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        nonlocal came
        if not came and any(put.namespace == CLOSED for each in bulk.writes for put in each.puts):
            came = True
            if meanwhile == "a resume":
                await CallQueue(old).resume()
            else:
                await results_of(old, new(sample_job(10**6, queue="late"), puts=(queue_put("late"),)))
            if is_killed:
                await write(bulk, now=now)
                raise Killed
        return await write(bulk, now=now)

    monkeypatch.setattr(old, "write", first)
    with suppress(Killed):
        await StoreCopy(old, "made").run(of(made), ME, within=MINUTE)
    if is_killed:
        await StoreCopy(old, "made").run(of(made), ME, within=MINUTE)
    for queue in ("default", "late") if meanwhile == "another queue" else ("default",):
        assert "copied from" in await held_reason(made, queue)


async def test_what_differs_keeps_the_new_store_closed(clock: ManualClock) -> None:
    old, made = MemoryStore(clock=clock), MemoryStore(clock=clock)
    await furnish(old, 100)
    with pytest.raises(Killed):
        await StoreCopy(old, "made").run(Cut(30, before=True).through(of(made)), ME, within=MINUTE)
    lost = next(iter(made.memory.jobs))
    made.memory.jobs[lost] = replace(made.memory.jobs[lost], reason="somebody has edited it by hand")
    with pytest.raises(StoreError, match=r"calls of queue .* differ between .* stays closed"):
        await StoreCopy(old, "made").run(of(made), ME, within=MINUTE)
    with pytest.raises(StoreClosedError):
        await stored(made, sample_job(1))


async def test_a_copy_that_is_not_whole_can_be_given_up_and_then_the_old_store_goes_on(clock: ManualClock) -> None:
    old, made, other = (MemoryStore(clock=clock) for _ in range(3))
    await furnish(old, 100)
    with pytest.raises(InvalidInputError, match="nothing to give up"):
        await StoreCopy(old, "made").abandon(ME)
    with pytest.raises(Killed):
        await StoreCopy(old, "made").run(Cut(20, before=True).through(of(made)), ME, within=MINUTE)
    await StoreCopy(old, "made").abandon(ME)
    await stored(old, sample_job(10**6))
    assert "copied from" in await held_reason(old, "default")
    with pytest.raises(StoreClosedError, match="was given up"):
        await stored(made, sample_job(1))
    with pytest.raises(InvalidInputError, match="not empty"):
        await StoreCopy(old, "made").run(of(made), ME, within=MINUTE)
    await StoreCopy(old, "other").run(of(other), ME, within=MINUTE)
    with pytest.raises(InvalidInputError, match="is copied to other, not to made: nothing was changed"):
        await StoreCopy(old, "made").abandon(ME)
    with pytest.raises(InvalidInputError, match="is whole"):
        await StoreCopy(old, "other").abandon(ME)


async def test_a_whole_copy_that_is_not_at_its_place_any_more_opens_the_old_store_never_again(
    clock: ManualClock,
) -> None:
    """Somebody has moved it, and goes on there."""
    old, made, moved = (MemoryStore(clock=clock) for _ in range(3))
    await furnish(old, 100)
    copy = StoreCopy(old, "made")
    await copy.run(of(moved), ME, within=MINUTE)
    for order in (copy.abandon, partial(copy.run, of(made), within=MINUTE)):
        with pytest.raises(InvalidInputError, match=r"to made is whole since .* restore its backup"):
            await order(by=ME)
    with pytest.raises(StoreClosedError):
        await stored(old, sample_job(10**6))
    assert await copy.run(of(moved), ME, within=MINUTE) is None


async def test_a_copy_that_somebody_gives_up_while_it_is_written_opens_no_second_store(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, made = (MemoryStore(clock=clock) for _ in range(2))
    await furnish(old, 100)
    align = StoreCopy._align  # which is done last

    async def given_up(copy: StoreCopy, target: Store, queue: str, batches: Sequence[str | None]) -> None:
        with suppress(InvalidInputError):  # the second time
            await StoreCopy(old, "made").abandon(ME)
        await align(copy, target, queue, batches)

    monkeypatch.setattr(StoreCopy, "_align", given_up)
    with pytest.raises(StoreError, match="given up meanwhile"):
        await StoreCopy(old, "made").run(of(made), ME, within=MINUTE)
    await stored(old, sample_job(10**6))
    with pytest.raises(StoreClosedError):
        await stored(made, sample_job(1))


# --- consumers ---


async def ended(store: Store, number: int) -> str:
    """The id of a new call that has ended, which consumers are told."""
    (job,) = await stored(store, sample_job(number))
    end = next_of(job, state=JobState.COMPLETED)
    await results_of(store, to(job, end, events=(told(end),), puts=(queue_put("default"),)))
    return job.id


async def test_a_consumer_reads_all_outcomes_before_a_store_is_copied_and_goes_on_in_the_new_one() -> None:
    old, made = MemoryStore(), MemoryStore()
    ids = [await ended(old, number) for number in range(2)]
    async with CallQueue(old).outcomes(consumer="billing", since=NOW) as stream:
        assert (await anext(stream)).job.id == ids[0]
    with pytest.raises(InvalidInputError, match=r"stream billing has not read all .* of queue default: .*held now"):
        await StoreCopy(old, "made").run(of(made), ME, within=timedelta(0))
    async with CallQueue(old).outcomes(consumer="billing") as stream, anyio.create_task_group() as group:
        group.start_soon(partial(StoreCopy(old, "made").run, of(made), ME, within=MINUTE))
        for job_id in ids:
            assert (await anext(stream)).job.id == job_id
        group.start_soon(stream.__anext__)  # so it is done with the last one, too
        await until(partial(is_whole, old))
        group.cancel_scope.cancel()
    later = await ended(made, 2)
    async with CallQueue(made).outcomes(consumer="billing") as stream:
        assert (await anext(stream)).job.id == later


async def is_whole(old: Store) -> bool:
    known = await copy_of(old, "to")
    return known is not None and known.whole_at is not None


async def test_an_outcome_that_comes_while_a_store_is_closed_is_left_behind_only_if_somebody_says_so(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, made = MemoryStore(clock=clock), MemoryStore(clock=clock)
    await ended(old, 1)
    await positions(old).put({"hook/crm/default": (await old.events("default"))[-1].sequence})
    write = old.write

    async def first(bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        if any(put.namespace == CLOSED for each in bulk.writes for put in each.puts):
            monkeypatch.undo()
            await ended(old, 2)
        return await write(bulk, now=now)

    monkeypatch.setattr(old, "write", first)
    with pytest.raises(InvalidInputError, match="hook crm has not read all outcomes"):
        await StoreCopy(old, "made").run(of(made), ME, within=timedelta(0))
    await stored(old, sample_job(3))  # it is open again
    opens, standing = made.write, list[BulkWrite]()

    async def last(bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        if any(drop.namespace == CLOSED for each in bulk.writes for drop in each.drops):
            standing.append(bulk)
            raise Killed
        return await opens(bulk, now=now)

    monkeypatch.setattr(made, "write", last)
    with pytest.raises(Killed):
        await StoreCopy(old, "made", skips_unread=True).run(of(made), ME, within=timedelta(0))
    monkeypatch.undo()
    # It is whole: also without the option, the old store stays closed, because that write may come late.
    assert await StoreCopy(old, "made").run(of(made), ME, within=timedelta(0))
    with pytest.raises(StoreClosedError):
        await stored(old, sample_job(4))
    assert (await opens(standing[0], now=clock.now()))[0].result is Result.NOT_FREE


# --- the journal files of the workers ---


@pytest.mark.parametrize("pair", [("sqlite", "sqlite"), ("postgres", "redis"), ("redis", "postgres")], ids="-".join)
async def test_the_journal_files_of_the_old_store_protect_the_new_one(
    pair: tuple[str, str], fresh_url: Callable[[str], str], tmp_path: Path, clock: ManualClock
) -> None:
    old_url, new_url = map(fresh_url, pair)
    voice = ScriptedVoice()

    def engine(store: Store, url: str) -> Engine:
        files = JournalFiles(journal_folder(store, url, tmp_path / "state"), shares=True)
        return Engine(store, voice, policy=CallPolicy(outcomes=OutcomeSource.NONE), local_journal=files)

    async with open_store(old_url, clock=clock) as old:
        async with engine(old, old_url).at_work() as worker:
            for place in range(3):
                await worker.enqueue(number(place))
            sent = [job for _ in range(2) for job in await worker.send(limit=1)]
            assert len(sent) == 2
        await StoreCopy(old, "the new store").run(opening(new_url, clock), ME, within=MINUTE)
    async with open_store(new_url, clock=clock) as made:
        async with engine(made, new_url).at_work() as worker:
            # Neither the other server nor the old files hold it once more: only the copy has.
            reason = await held_reason(made, "default")
            assert reason.startswith("copied from")
            assert THEN not in reason
            assert await worker.send() == []
            await worker.queue.resume()
            assert len(await worker.send()) == 1
        assert sorted(voice.rang) == [number(place) for place in range(3)]
        # A loss of what was sent before the copy is noticed, too.
        (lost,) = await made.jobs(ById((sent[-1].id,)), now=clock.now())
        await results_of(made, Write(changes=(Delete(lost, None, tally_change(lost, None)),)))
        numbers = (await made.records({WRITERS: Page()}, now=clock.now()))[WRITERS]
        await text_records(made, WRITERS).put({each.group: f"{int(each.value) - 1}" for each in numbers})
        async with engine(made, new_url).at_work() as worker:
            assert await worker.send() == []
            assert HELD in await held_reason(made, "default")
            assert (await worker.queue.get(lost.id)).state is JobState.IN_DOUBT
    # Nobody works on the old one by mistake.
    async with open_store(old_url, clock=clock) as old:
        with pytest.raises(StoreClosedError, match="copied to the new store"):
            async with engine(old, old_url).at_work():
                pass
    assert len(voice.rang) == 3


@pytest.mark.parametrize("kind", ["sqlite", *SERVERS])
async def test_orders_of_before_a_copy_count_for_it_and_those_on_its_sister_do_not(
    kind: str, fresh_url: Callable[[str], str], tmp_path: Path
) -> None:
    old_url, one_url, other_url = (fresh_url(kind) for _ in range(3))
    before, later, on_sister = map(number, range(3))

    @asynccontextmanager
    async def on(url: str) -> AsyncGenerator[Store]:
        settings = load_settings(store=url, state_dir=str(tmp_path / "state"))
        async with open_store(url, settings=settings, advises=False) as store:
            yield store

    async def copied_to(url: str) -> None:
        async with on(old_url) as old:
            await StoreCopy(old, url).run(lambda: backend_for(url)(url, clock=None), ME, within=MINUTE)

    async def opted_out(url: str, *numbers: str) -> set[str]:
        async with on(url) as store:
            await SuppressionList(store).add(*numbers)
            return set(await SuppressionList(store).find(before, later, on_sister))

    async with on(old_url) as old:
        await CallQueue(old).enqueue(flow(number(9)))
    await opted_out(old_url, before)
    await copied_to(one_url)
    async with on(old_url) as old:  # somebody has restored its backup
        await results_of(old, Write(drops=(Drop(CLOSED, CLOSED_KEY, None), Drop(COPIES, "to", None))))
    await opted_out(old_url, later)
    await copied_to(other_url)
    assert await opted_out(one_url, on_sister) == {before, on_sister}
    async with on(one_url) as one:
        await Resume(operator=Operator(one, CallPolicy(), name="Ann", on=Interface.PAGES), queue="default").do()
    for url, counts in ((old_url, {before, later}), (one_url, {before, on_sister}), (other_url, {before, later})):
        async with backend_for(url)(url, clock=None) as store:  # it is set back to before all orders
            if url == old_url:
                await results_of(store, Write(drops=(Drop(CLOSED, CLOSED_KEY, None), Drop(COPIES, "to", None))))
            for name in ("suppressed", WRITERS):
                records = (await store.records({name: Page()}, now=store.clock.now()))[name]
                await results_of(store, Write(drops=tuple(Drop(name, each.group, None) for each in records)))
        assert await opted_out(url) == counts, url
        if url == other_url:
            async with on(url) as store:
                assert await gates_at(store, "default", [None]), "its sister was resumed, and this one was not"
