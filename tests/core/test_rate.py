"""The rate of a queue: set by a person, with a slow store, and when a clock is set back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count, pairwise
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.everyday import combinations
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.flows import flow, number
from tests.support.manual_time import all_blocked, passing, passing_beside
from tests.support.stores import clocked
from tests.support.voices import GatedVoice, ScriptedVoice, created, not_sent
from tests.support.workers import NO_WEBHOOKS, at_work, enqueued, set_limits, worker_for
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    CallRequest,
    InvalidInputError,
    Worker,
    WorkerOptions,
    open_store,
)
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.core.base.reading import limits_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports import Limits, Placement, Store
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write
from voiceflow_worker.core.sending.pacer import SLOT_TOLERANCE, Pacer
from voiceflow_worker.core.set_rate import SetRate
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.suppression import listed_groups
from voiceflow_worker.core.writes import NUMBER
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Verdict
from voiceflow_worker.model.text.wording import SLOWEST

pytestmark = pytest.mark.anyio

store = clocked("memory")


@pytest.mark.parametrize(
    ("given", "new", "seconds", "least", "most"),
    [
        ([1 / 600, 1 / 600], 10, 5, 45, 52),  # it ends the long pauses of a slow one
        ([20, 20], 1, 10, 9, 11),
        ([None], 2, 5, 9, 12),
    ],
)
async def test_all_workers_keep_a_rate_within_a_second_after_it_was_set(
    clock: ManualClock, store: Store, *, given: list[float | None], new: float, seconds: float, least: int, most: int
) -> None:
    voice, counted = ScriptedVoice(), 0
    queue = await enqueued(store, 200)
    workers = [worker_for(store, voice, rate=rate) for rate in given]

    async def changed() -> None:
        nonlocal counted
        await clock.sleep(3)
        await queue.set_rate(new)
        await clock.sleep(1.5)
        before = len(voice.placed)
        await enqueued(store, 100, first=200)
        await clock.sleep(seconds)
        counted = len(voice.placed) - before
        for worker in workers:
            worker.stop()

    await passing_beside(clock, workers, changed)
    assert least <= counted <= most


async def test_a_worker_that_starts_later_keeps_it_until_it_is_reset(clock: ManualClock, store: Store) -> None:
    queue = await enqueued(store, 1)
    await queue.set_rate(5)
    await passing(clock, worker_for(store, ScriptedVoice(), rate=50).drain)
    assert await limits_of(store, "default") == Limits(rate=5)
    assert [await queue.reset_rate(), await queue.reset_rate()] == [True, False]
    assert await limits_of(store, "default") == Limits(rate=50), "running workers follow it within a second"
    await queue.set_rate(5)
    await queue.set_rate(6)
    await queue.reset_rate()
    assert await limits_of(store, "default") == Limits(rate=50)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_rate_set_while_a_worker_starts_is_not_overwritten(
    store: Store, monkeypatch: pytest.MonkeyPatch, reset: bool
) -> None:
    """The worker has read what was set before, and writes after it."""
    queue = CallQueue(store)
    await queue.set_rate(7)
    monkeypatch.setattr(SetRate, "_current", read_before(lambda: queue.reset_rate() if reset else queue.set_rate(5)))
    await SetRate(store, "default").begin(Limits(rate=50, burst=3))
    assert await limits_of(store, "default") == Limits(rate=50 if reset else 5, burst=3)


async def test_a_rate_set_while_a_worker_starts_keeps_the_limits_of_the_worker(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command has read the limits before the worker wrote its own, and writes after it."""
    begun = SetRate(store, "default")
    monkeypatch.setattr(SetRate, "_current", read_before(lambda: begun.begin(Limits(rate=50, burst=3, max_active=9))))
    await CallQueue(store).set_rate(5)
    assert await limits_of(store, "default") == Limits(rate=5, burst=3, max_active=9)


async def test_a_rate_that_stands_already_is_kept_for_workers_that_start_later(store: Store) -> None:
    await SetRate(store, "default").begin(Limits(rate=10))
    await CallQueue(store).set_rate(10)
    await SetRate(store, "default").begin(Limits(rate=50))
    assert await limits_of(store, "default") == Limits(rate=10)


@pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.AFTER])
@pytest.mark.parametrize("place", [1, 2, 3])
async def test_a_rate_whose_order_was_cut_holds_for_all_or_for_nobody(any_store: Store, loss: Loss, place: int) -> None:
    """What is shown is what the next worker keeps, whichever write of the order was the last one."""
    own, writes = Limits(rate=5, burst=2), count(1)
    await SetRate(any_store, "default").begin(own)
    faulty = FaultyStore(any_store)
    faulty.lose(loss, "write", times=9, when=lambda _: next(writes) >= place)
    with suppress(StoreUnavailableError):
        await CallQueue(faulty).set_rate(40)
    shown = await limits_of(any_store, "default")
    _, kept = await SetRate(any_store, "default").begin(own)
    assert shown == kept == replace(own, rate=5 if (loss, place) == (Loss.BEFORE, 1) else 40)


def read_before(other: Callable[[], Awaitable[object]]) -> Callable[[SetRate], Awaitable[object]]:
    """What is read at first is out of date: `other` writes after it."""
    read, others = SetRate._current, [other]

    async def standing(self: SetRate) -> object:
        found = await read(self)
        while others:
            await others.pop()()
        return found

    return standing


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan"), 1e-13, 5e-324])
async def test_an_impossible_rate_is_refused(store: Store, rate: float) -> None:
    with pytest.raises(InvalidInputError, match="rate"):
        await CallQueue(store).set_rate(rate)
    assert await limits_of(store, "default") is None
    if rate != float("inf"):
        with pytest.raises(InvalidInputError, match="sends nothing"):
            worker_for(store, ScriptedVoice(), rate=rate)


async def test_workers_go_on_at_the_slowest_rate_and_after_it(clock: ManualClock, store: Store) -> None:
    voice, queue = ScriptedVoice(), await enqueued(store, 40)
    worker = worker_for(store, voice, rate=10)

    async def changed() -> None:
        await clock.sleep(1)
        await queue.set_rate(SLOWEST)
        await clock.sleep(60)
        slowly.append(len(voice.placed))
        await queue.set_rate(10)
        await clock.sleep(60)
        worker.stop()

    slowly: list[int] = []
    await passing_beside(clock, [worker], changed)
    assert slowly[0] < 40
    assert len(voice.placed) == 40


MOMENT = timedelta(microseconds=100)
LEARNING = 5
POLICY = CallPolicy(outcomes=OutcomeSource.NONE)
COMMITS = frozenset({"write"})
WRITES = COMMITS | {"lease"}


def busiest(times: list[float], span: float) -> int:
    """The most calls in any time of this length; the times are in order."""
    first = most = 0
    for place, at in enumerate(times):
        while times[first] <= at - span + 1e-6:
            first += 1
        most = max(most, place - first + 1)
    return most


async def slots(
    clock: ManualClock,
    *,
    rate: float,
    takes: timedelta,
    trips: Collection[str],
    calls: int,
    workers: int = 1,
    concurrency: int = 50,
    policy: CallPolicy = POLICY,
    journal: Path | None = None,
) -> list[float]:
    """When the calls of a queue left, in seconds, with these trips to the store taking this long."""
    async with open_store("memory://", clock=clock) as opened:
        queue = CallQueue(opened, policy=policy)
        await queue.enqueue_many(CallRequest(flow=flow(number(place))) for place in range(calls))

        async def slowly(call: StoreCall) -> None:
            await clock.sleep((takes if call.name in trips else MOMENT).total_seconds())

        store, voice = FaultyStore(opened, before=slowly), ScriptedVoice()
        options = WorkerOptions(policy=policy)

        async def drained() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(workers):
                    files = None if journal is None else JournalFiles(journal)
                    worker = Worker(
                        store, voice, rate=rate, concurrency=concurrency, options=options, local_journal=files
                    )
                    group.start_soon(worker.drain)

        await passing(clock, drained, within=timedelta(seconds=2 * calls / rate + 30))
        assert len(set(voice.client_request_ids)) == len(voice.placed) == calls
    return sorted(at.timestamp() for at, _ in voice.placed)


def milliseconds(count: float) -> timedelta:
    return timedelta(milliseconds=count)


def used(times: list[float], rate: float) -> float:
    """The part of the rate that was used, once the first trips have shown how long they take."""
    settled = [at for at in times if at - times[0] >= LEARNING] if rate >= 1 else times
    return (len(settled) - 1) / (settled[-1] - settled[0]) / rate


@pytest.mark.parametrize(("takes", "workers", "trips"), combinations((100, 500), (1, 4), (COMMITS, WRITES)))
async def test_a_slow_store_costs_a_queue_nothing_of_its_rate(
    clock: ManualClock, takes: int, workers: int, trips: Collection[str]
) -> None:
    # Where everything is slow, more calls are on their way between the store and 8x8.
    times = await slots(
        clock, rate=10, takes=milliseconds(takes), trips=trips, calls=300, workers=workers, concurrency=100
    )
    assert used(times, 10) >= 0.95
    assert busiest(times, 1) <= 11


@pytest.mark.parametrize("rate", [10, None])
async def test_many_calls_to_one_busy_number_do_not_keep_the_others_waiting(
    clock: ManualClock, rate: float | None
) -> None:
    async with open_store("memory://", clock=clock) as opened:
        queue = CallQueue(opened, policy=POLICY)
        await queue.enqueue_many(CallRequest(flow=flow(number(0)), unique_key=str(each)) for each in range(1000))
        await text_records(opened, NUMBER).put({number(0): "another call"})
        clock.advance(timedelta(seconds=1))
        await queue.enqueue(flow(number(1)))

        async def slowly(_: StoreCall) -> None:
            await clock.sleep(0.002)

        voice, began, waited = GatedVoice(bytes_left=True), clock.now(), list[timedelta]()
        worker = Worker(FaultyStore(opened, before=slowly), voice, rate=rate, options=WorkerOptions(policy=POLICY))

        async def called() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                await voice.reached(1)
                waited.append(clock.now() - began)
                worker.stop()
                voice.open.set()

        await passing(clock, called, within=timedelta(minutes=1))
    assert waited[0] < timedelta(seconds=0.5)


async def test_behind_two_thousand_suppressed_calls_the_next_one_rings_soon(clock: ManualClock) -> None:
    """None of them takes a slot: more are leased and tried, while all are refused."""
    async with open_store("memory://", clock=clock) as opened:
        queue = CallQueue(opened, policy=POLICY)
        for half in range(2):
            await queue.enqueue_many(
                CallRequest(flow=flow(number(0)), unique_key=f"{half} {each}") for each in range(1000)
            )
        group = listed_groups([number(0)], store_id=opened.id)[0]
        # As an opt-out that was stored at this moment: the waiting calls are not ended yet.
        put = Put(SUPPRESSED, group, '{"reason":"asked"}', None)
        await opened.write(BulkWrite(writes=(Write(puts=(put,)),)), now=clock.now())
        clock.advance(timedelta(seconds=1))
        await queue.enqueue(flow(number(1)))

        async def slowly(_: StoreCall) -> None:
            await clock.sleep(0.002)

        voice, began = ScriptedVoice(), clock.now()
        worker = Worker(FaultyStore(opened, before=slowly), voice, rate=1, options=WorkerOptions(policy=POLICY))
        await passing(clock, worker.drain, within=timedelta(minutes=1))
        ((rang_at, _),) = voice.placed
        assert rang_at - began < timedelta(seconds=5)


async def test_answers_that_wait_for_the_store_take_no_place_of_calls_that_are_due(clock: ManualClock) -> None:
    """50 calls a second have 61 on their way: each waits 1.2 s for its journal entry and its slot."""
    times = await slots(clock, rate=50, takes=milliseconds(500), trips=COMMITS, calls=500, concurrency=70)
    assert used(times, 50) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "calls"), [(0.005, 5), (0.1, 20), (1, 40), (50, 500)])
@pytest.mark.parametrize("takes", [1, 100, 500, 1000])
async def test_any_rate_is_used_and_kept_however_slow_the_journal_is(
    clock: ManualClock, rate: float, calls: int, takes: int
) -> None:
    times = await slots(clock, rate=rate, takes=milliseconds(takes), trips=COMMITS, calls=calls, concurrency=1000)
    # Entries that wait for a commit of a second, and then take one, leave late or go back.
    assert used(times, rate) >= (0.95 if takes < 1000 or rate < 50 else 0.6)
    span = max(1, 5 / rate)
    assert busiest(times, span) <= span * rate * 1.05 + 1


async def test_a_rate_with_more_time_between_two_calls_than_the_submit_window_has_is_used(clock: ManualClock) -> None:
    """The journal of the first call takes too long for its slot, and the next one is after its window."""
    policy = CallPolicy(outcomes=OutcomeSource.NONE, submit_window=timedelta(seconds=5))
    times = await slots(clock, rate=0.15, takes=milliseconds(1000), trips=COMMITS, calls=10, policy=policy)
    assert times[-1] - times[0] == pytest.approx(9 / 0.15, abs=1.5)


@pytest.mark.parametrize(("rate", "has_files"), [(50, False), (50, True), (10, True), (5, True)])
async def test_four_workers_share_the_calls_of_a_second(
    clock: ManualClock, tmp_path: Path, *, rate: int, has_files: bool
) -> None:
    journal = tmp_path if has_files else None
    times = await slots(
        clock, rate=rate, takes=milliseconds(5), trips=WRITES, calls=10 * rate, workers=4, journal=journal
    )
    assert busiest(times, 1) <= rate + 2
    assert used(times, rate) >= 0.95


@pytest.mark.parametrize("jump", [-600, 600])
async def test_after_the_clock_has_jumped_calls_leave_at_the_rate_again(
    clock: ManualClock, store: Store, jump: float
) -> None:
    voice = ScriptedVoice()
    await enqueued(store, 50)
    worker = worker_for(store, voice, rate=10)
    left: list[int] = []

    async def jumped() -> None:
        await clock.sleep(2)
        clock.jump(timedelta(seconds=jump))
        await enqueued(store, 300, first=50)
        await clock.sleep(11 if jump < 0 else 0)  # until all workers know it
        for _ in range(2):
            left.append(len(voice.placed))
            await clock.sleep(10)
        left.append(len(voice.placed))
        worker.stop()

    await passing_beside(clock, [worker], jumped)
    assert [later - earlier >= 90 for earlier, later in pairwise(left)] == [True, True]


async def test_a_slot_from_before_the_clock_was_set_back_is_not_waited_for_as_long_as_the_jump(
    clock: ManualClock,
) -> None:
    pacer = Pacer(clock, queue="default", rate=10)
    slot = SendSlot(clock.now(), clock.now() + timedelta(seconds=0.1))
    clock.jump(timedelta(hours=-1))
    began = clock.monotonic()
    leaves: list[bool] = []

    async def wait() -> None:
        leaves.append(await pacer.wait_for_slot(slot, within=2))

    await passing(clock, wait)
    assert leaves == [False]
    assert clock.monotonic() - began < 2.5


async def test_a_slow_queue_is_not_asked_again_and_again(clock: ManualClock, store: Store) -> None:
    """Each of two workers leases a call when the next slot is near; who does not get the slot puts its call back."""
    faulty, voice = FaultyStore(store), ScriptedVoice()
    await enqueued(store, 5)
    workers = [worker_for(faulty, voice, rate=1 / 60) for _ in range(2)]

    async def worked() -> None:
        await clock.sleep(150)
        for worker in workers:
            worker.stop()

    await passing_beside(clock, workers, worked)
    assert len(voice.placed) == 3
    assert faulty.made["lease"] <= 20


@pytest.mark.parametrize("stall", [SLOT_TOLERANCE + milliseconds(1), milliseconds(90), timedelta(seconds=3)])
async def test_calls_that_missed_their_slots_go_back_and_do_not_leave_in_a_bunch(
    clock: ManualClock, store: Store, stall: timedelta
) -> None:
    """Five calls have their slots, 20 ms apart; then the process stands still."""
    await set_limits(store, "default", Limits(rate=50))
    voice = ScriptedVoice()
    engine = Engine(store, voice, rate=50)
    for place in range(5):
        await engine.enqueue(number(place))
    dispatches = await engine.begin(await engine.prepare())
    due = [dispatch.slot.at for dispatch in dispatches if dispatch.slot and dispatch.slot.at]
    assert [later - earlier for earlier, later in pairwise(due)] == [milliseconds(20)] * 4
    clock.advance(stall)
    kept = sum(clock.now() - at <= SLOT_TOLERANCE for at in due)
    await passing(clock, lambda: engine.finish(*dispatches))
    assert len(voice.placed) == kept
    assert engine.pacer.missed + kept == 5


async def test_a_call_without_a_slot_in_time_waits_and_has_no_journal_entry(clock: ManualClock, store: Store) -> None:
    await set_limits(store, "default", Limits(rate=1))
    engine = Engine(store, ScriptedVoice(), rate=1)
    await engine.enqueue(number(0))
    await engine.enqueue(number(1))
    begun, waiting = await engine.prepare()
    assert await engine.entries.enter([begun]) == [None]
    (no_slot,) = await engine.entries.enter([waiting])
    assert isinstance(no_slot, SendSlot)
    engine.pacer.answered(clock.monotonic(), no_slot)
    assert (begun.is_begun, waiting.is_begun, await engine.state(waiting.job)) == (True, False, "leased")
    assert engine.pacer.next_lease(0)[1] > 0
    clock.advance(timedelta(seconds=1))
    assert engine.pacer.next_lease(0) == (1, 0.0)
    assert await engine.entries.enter([waiting]) == [None]


async def test_at_a_low_rate_a_slot_may_be_missed_by_half_the_time_until_the_next(clock: ManualClock) -> None:
    pacer = Pacer(clock, queue="default", rate=1 / 60)
    slot = SendSlot(clock.now(), clock.now() + timedelta(minutes=1))
    clock.advance(timedelta(seconds=29))
    assert await pacer.wait_for_slot(slot, within=2)
    clock.advance(timedelta(seconds=2))
    assert not await pacer.wait_for_slot(slot, within=2)


async def enqueue(queue: CallQueue) -> None:
    await queue.enqueue(flow())


async def held_then_resumed(queue: CallQueue) -> None:
    await queue.hold(reason="a look at the texts")
    await queue.enqueue(flow())
    await all_blocked()
    await queue.resume()


@pytest.mark.parametrize("happens", [enqueue, held_then_resumed])
async def test_an_idle_worker_is_woken_by_what_happens_and_does_not_wait_for_its_next_look(
    store: Store, happens: Callable[[CallQueue], Awaitable[None]]
) -> None:
    queue, voice = CallQueue(store, policy=NO_WEBHOOKS), ScriptedVoice()
    worker = worker_for(store, voice)
    async with at_work(worker):
        await all_blocked()
        await happens(queue)
        await all_blocked()
        assert len(voice.placed) == 1, "no time has passed"


class Unreachable(ScriptedVoice):
    """No connection for the first calls, each told some time after the one before; then all is well."""

    def __init__(self, clock: ManualClock, *, calls: int, apart: timedelta) -> None:
        super().__init__()
        self._clock = clock
        self._calls = calls
        self._apart = apart
        self.failed_at: list[datetime] = []

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        self.placed.append((self._clock.now(), placement))
        if len(self.placed) > self._calls:
            await before_first_byte()
            return created(f"session-{placement.client_request_id}")
        await self._clock.sleep((len(self.placed) * self._apart).total_seconds())
        self.failed_at.append(self._clock.now())
        return not_sent()


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(milliseconds=100)])
async def test_fifty_calls_that_fail_together_are_one_outage(
    store: Store, clock: ManualClock, apart: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.core.worker.MOST_UNANSWERED", 50)
    voice = Unreachable(clock, calls=50, apart=apart)
    await enqueued(store, 60)
    with capture_logs() as logs:
        await passing(clock, worker_for(store, voice, concurrency=50).drain)
    assert [line["event"] for line in logs].count("8x8 cannot be reached") == 1
    asked_again = voice.placed[50][0]
    assert asked_again - voice.failed_at[-1] <= timedelta(seconds=1)
    assert len(voice.placed) == 110
