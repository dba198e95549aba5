"""The rate of a queue whose store is slow: on a clock that stands still until nobody has anything to do."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import anyio
import pytest

from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.manual_time import passing
from tests.support.voices import GatedVoice, ScriptedVoice
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, Worker, WorkerOptions, open_store
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.core.units import NUMBER
from voiceflow_worker.model.jobs.policy import OutcomeSource

pytestmark = pytest.mark.anyio


MOMENT = timedelta(microseconds=100)
LEARNING = 5
POLICY = CallPolicy(outcomes=OutcomeSource.NONE)
COMMITS = frozenset({"write"})
WRITES = COMMITS | {"lease", "take"}


def busiest(times: list[float], span: float) -> int:
    """The most calls in any time of this length; the times are in order."""
    first = most = 0
    for place, at in enumerate(times):
        while times[first] <= at - span + 1e-6:
            first += 1
        most = max(most, place - first + 1)
    return most


async def departures(
    clock: ManualClock,
    *,
    rate: float,
    takes: timedelta,
    trips: Collection[str],
    calls: int,
    workers: int = 1,
    concurrency: int = 50,
    policy: CallPolicy = POLICY,
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
                    worker = Worker(store, voice, rate=rate, concurrency=concurrency, options=options)
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


@pytest.mark.parametrize(("takes", "workers"), [(100, 1), (500, 1), (100, 4), (500, 4)])
@pytest.mark.parametrize("trips", [COMMITS, WRITES], ids=["commits", "all writes"])
async def test_a_slow_store_costs_a_queue_nothing_of_its_rate(
    clock: ManualClock, trips: Collection[str], takes: int, workers: int
) -> None:
    # Where everything is slow, more calls are on their way between the store and 8x8.
    times = await departures(
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


async def test_answers_that_wait_for_the_store_take_no_place_of_calls_that_are_due(clock: ManualClock) -> None:
    """50 calls a second have 55 on their way: each waits 1.1 s for its journal entry and its departure."""
    times = await departures(clock, rate=50, takes=milliseconds(500), trips=COMMITS, calls=1000, concurrency=60)
    assert used(times, 50) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "calls"), [(0.005, 5), (0.1, 20), (1, 40), (50, 500)])
@pytest.mark.parametrize("takes", [1, 100, 500, 1000])
async def test_any_rate_is_used_and_kept_however_slow_the_journal_is(
    clock: ManualClock, rate: float, calls: int, takes: int
) -> None:
    times = await departures(clock, rate=rate, takes=milliseconds(takes), trips=COMMITS, calls=calls, concurrency=1000)
    # Entries that wait for a commit of a second, and then take one, leave late or go back.
    assert used(times, rate) >= (0.95 if takes < 1000 or rate < 50 else 0.6)
    span = max(1, 5 / rate)
    assert busiest(times, span) <= span * rate * 1.05 + 1


async def test_a_rate_with_more_time_between_two_calls_than_the_submit_window_has_is_used(clock: ManualClock) -> None:
    """The journal of the first call takes too long for its departure, and the next one is after its window."""
    policy = CallPolicy(outcomes=OutcomeSource.NONE, submit_window=timedelta(seconds=5))
    times = await departures(clock, rate=0.15, takes=milliseconds(1000), trips=COMMITS, calls=10, policy=policy)
    assert times[-1] - times[0] == pytest.approx(9 / 0.15, abs=1.5)
