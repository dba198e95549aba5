"""Waiting for the outcome of one call: from whom, how long, and at which cost for many waiters."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.calls import Calls
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.flows import flow, number
from tests.support.manual_time import time_passing
from tests.support.waiting import until
from voiceflow_worker import CallQueue, CallRequest, Job, JobState, SessionStatus
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import ById
from voiceflow_worker.errors import JobNotFoundError, OutcomeTimeoutError, StoreCorruptError, VoiceflowError

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)


@pytest.fixture
def calls(store: Store) -> Calls:
    return Calls(store)


async def test_it_returns_when_the_call_ends(calls: Calls, clock: ManualClock) -> None:
    job = await calls.placed()
    async with time_passing(clock), anyio.create_task_group() as group:

        async def end() -> None:
            await until(lambda: clock.monotonic() > 2)
            await calls.end(job, SessionStatus.NO_ANSWER)

        group.start_soon(end)
        ended = await calls.queue.wait_for_outcome(job.id, timeout=timedelta(hours=1))
    assert ended.state is JobState.UNREACHED


async def test_a_time_out_says_where_the_call_is(calls: Calls, clock: ManualClock) -> None:
    job = await calls.placed()
    async with time_passing(clock):
        with pytest.raises(
            OutcomeTimeoutError, match=f"call {job.id} has no outcome after 3 s: it is submitted"
        ) as caught:
            await calls.queue.wait_for_outcome(job.id, timeout=3 * SECOND)
    assert (caught.value.job_id, caught.value.state) == (job.id, "submitted")
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, VoiceflowError)


async def test_a_doubt_is_waited_through_and_named(calls: Calls, clock: ManualClock) -> None:
    job = await calls.engine.enqueue()
    await calls.engine.journal()
    clock.advance(timedelta(minutes=2))
    await calls.engine.sweeper.sweep()
    async with time_passing(clock):
        with pytest.raises(OutcomeTimeoutError, match="it is in_doubt and waits for evidence, or a person"):
            await calls.queue.wait_for_outcome(job.id, timeout=3 * SECOND)
    await calls.end(job)
    assert (await calls.queue.wait_for_outcome(job.id)).state is JobState.COMPLETED


async def test_an_unknown_call_is_an_error(store: Store) -> None:
    with pytest.raises(JobNotFoundError):
        await CallQueue(store).wait_for_outcome("default.01ARZ3NDEKTSV4RRFFQ69G5FAV", timeout=SECOND)


async def test_a_store_that_is_away_is_waited_for(store: Store, clock: ManualClock) -> None:
    away = FaultyStore(store)
    job = await Calls(store).ended()
    away.lose(Loss.BEFORE, "", times=5)
    async with time_passing(clock):
        assert (await CallQueue(away).wait_for_outcome(job.id)).state is JobState.COMPLETED
    assert away.still_to_lose == 0


async def test_a_store_that_stays_away_times_out(store: Store, clock: ManualClock) -> None:
    away = FaultyStore(store)
    away.lose(Loss.BEFORE, "", times=1000)
    async with time_passing(clock):
        with pytest.raises(OutcomeTimeoutError, match="the store could not be reached") as caught:
            await CallQueue(away).wait_for_outcome("default.1", timeout=3 * SECOND)
    assert caught.value.state is None


async def test_many_waiters_share_each_look(store: Store, clock: ManualClock) -> None:
    looks: list[int] = []

    async def count(call: StoreCall) -> None:
        if call.name == "jobs" and isinstance(read := call.arguments[0], ById):
            looks.append(len(read.ids))

    queue, calls = CallQueue(FaultyStore(store, before=count)), Calls(store)
    await queue.enqueue_many(CallRequest(flow=flow(number(5000 + place))) for place in range(60))
    jobs = await queue.find(limit=None)
    ended: Counter[str] = Counter()

    async def wait(job: Job) -> None:
        ended[(await queue.wait_for_outcome(job.id)).state] += 1

    async with anyio.create_task_group() as group:
        for job in jobs:
            group.start_soon(wait, job)
        await until(lambda: clock.sleepers == 60)
        clock.advance(timedelta(seconds=1))
        await until(lambda: sum(looks) == 120 and clock.sleepers == 60)
        assert looks == [1, 59] * 2
        for job in jobs:
            await calls.queue.cancel(job.id)
        clock.advance(timedelta(seconds=1))
    assert ended == {"cancelled": 60}
    assert looks == [1, 59] * 3


async def test_who_leaves_does_not_leave_the_others_waiting(calls: Calls, clock: ManualClock) -> None:
    """The one who looks for all is cancelled, or times out: the next one looks."""
    jobs = [await calls.placed() for _ in range(4)]
    told: list[str] = []

    async def wait(job: Job, scope: anyio.CancelScope) -> None:
        with scope:
            told.append((await calls.queue.wait_for_outcome(job.id)).id)

    async def wait_in_vain(job: Job) -> None:
        with pytest.raises(OutcomeTimeoutError):
            await calls.queue.wait_for_outcome(job.id, timeout=2 * SECOND)

    scopes = [anyio.CancelScope() for _ in jobs]
    async with time_passing(clock), anyio.create_task_group() as group:
        group.start_soon(wait, jobs[0], scopes[0])
        await until(lambda: clock.sleepers > 0)
        group.start_soon(wait_in_vain, jobs[1])
        group.start_soon(wait, jobs[2], scopes[2])
        group.start_soon(wait, jobs[3], scopes[3])
        await until(lambda: clock.monotonic() > 1)
        scopes[0].cancel()
        await until(lambda: clock.monotonic() > 4)
        await calls.end(jobs[3])
        await calls.end(jobs[2])
        await until(lambda: len(told) == 2)
    assert set(told) == {jobs[2].id, jobs[3].id}


async def test_a_store_that_cannot_be_read_ends_every_wait(store: Store, clock: ManualClock) -> None:
    async def damaged(call: StoreCall) -> None:
        if call.name == "jobs":
            raise StoreCorruptError("damaged")

    queue = CallQueue(FaultyStore(store, before=damaged))
    failed: list[str] = []

    async def wait() -> None:
        with pytest.raises(StoreCorruptError):
            await queue.wait_for_outcome("default.1")
        failed.append("one")

    async with time_passing(clock), anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
    assert len(failed) == 3
