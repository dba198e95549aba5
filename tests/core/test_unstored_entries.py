"""A worker that could not store a journal entry has certainly sent nothing: no call stays in doubt because of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import LEASE, Engine
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.manual_time import passing, time_passing
from tests.support.voices import GatedVoice, ScriptedVoice
from tests.support.workers import enqueued, states, worker_for
from voiceflow_worker import JobState
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.sending.submit import Dispatch

pytestmark = pytest.mark.anyio

CALLS = 6
SLOWLY = timedelta(milliseconds=20)
"""A step of time at which a Redis on a busy machine is quick enough for a call to leave in time."""


def begins(call: StoreCall) -> bool:
    """Whether this stores a journal entry."""
    return any(job.state is JobState.SENDING for job in call.stores)


async def begun(engine: Engine, dispatch: Dispatch, clock: ManualClock) -> Dispatch:
    """The call after the try to store its journal entry."""
    found: list[Dispatch] = []

    async def begin() -> None:
        found.extend(await engine.submitter.begin([dispatch]))

    await passing(clock, begin)
    return found[0]


@pytest.mark.parametrize("rate", [None, 50])
@pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.AFTER])
@pytest.mark.parametrize("times", [4, pytest.param(40, marks=pytest.mark.slow)])
async def test_calls_whose_journal_entries_were_given_up_ring_once_and_none_is_in_doubt(
    any_store: Store, clock: ManualClock, loss: Loss, times: int, rate: float | None
) -> None:
    store = FaultyStore(any_store)
    store.lose(loss, "write", times=times, when=begins)
    queue, voice = await enqueued(store, CALLS), ScriptedVoice()
    async with time_passing(clock, step=SLOWLY):
        await worker_for(store, voice, rate=rate).drain()
    assert await states(queue) == {"accepted": CALLS}
    assert len(voice.placed) == len({placement.client_request_id.split(".")[1] for _, placement in voice.placed})


async def test_the_verdict_waits_for_a_store_that_stays_away_and_settles_a_doubt(
    any_store: Store, clock: ManualClock
) -> None:
    store, voice = FaultyStore(any_store), ScriptedVoice()
    engine, sweeper = Engine(store, voice), Engine(any_store, ScriptedVoice())
    job = await engine.enqueue()
    store.lose(Loss.AFTER, "write", times=4, when=begins)
    (dispatch,) = await engine.prepare()
    unsent = await begun(engine, dispatch, clock)
    store.lose(Loss.BEFORE, "write", "jobs", times=30)
    clock.advance(LEASE + timedelta(seconds=1))
    await sweeper.sweeper.sweep()
    assert await sweeper.state(job) == "in_doubt"

    async def send() -> None:
        await engine.finish(unsent)

    await passing(clock, send)
    after = await engine.queue.get(job.id)
    assert (after.state, after.attempt, voice.placed) == (JobState.QUEUED, 0, [])
    assert "its journal entry could not be stored" in (after.reason or "")


async def test_an_entry_that_another_worker_stored_meanwhile_is_not_taken_for_the_own_one(
    any_store: Store, clock: ManualClock
) -> None:
    """It has the same number, and its phone rings."""
    store = FaultyStore(any_store)
    engine, gated = Engine(store, ScriptedVoice()), GatedVoice(bytes_left=True)
    other = Engine(any_store, gated)
    job = await engine.enqueue()
    store.lose(Loss.BEFORE, "write", times=4, when=begins)
    (dispatch,) = await engine.prepare()
    unsent = await begun(engine, dispatch, clock)
    clock.advance(LEASE + timedelta(seconds=1))
    await other.sweeper.sweep()
    async with anyio.create_task_group() as group:
        group.start_soon(other.send)
        await gated.reached(1)
        await engine.finish(unsent)
        assert await engine.state(job) == "sending"
        gated.open.set()
    assert await engine.state(job) == "submitted"


async def test_an_entry_that_arrives_after_it_was_given_up_is_not_stored(any_store: Store, clock: ManualClock) -> None:
    store = FaultyStore(any_store)
    engine = Engine(store, ScriptedVoice())
    job = await engine.enqueue()
    late: list[StoreCall] = []

    async def delayed(call: StoreCall) -> None:
        if begins(call):
            late.append(call)

    store.before = delayed
    store.lose(Loss.BEFORE, "write", times=4, when=begins)
    (dispatch,) = await engine.prepare()

    async def given_up() -> None:
        for unsent in await engine.submitter.begin([dispatch]):
            await engine.finish(unsent)

    await passing(clock, given_up)
    await late[0].carry_out()
    after = await engine.queue.get(job.id)
    assert (after.state, after.post_count) == (JobState.QUEUED, 0)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), ValueError("odd")], ids=str)
async def test_an_unexpected_error_of_the_store_is_such_a_failure_too(
    any_store: Store, clock: ManualClock, fault: Exception
) -> None:
    store, voice = FaultyStore(any_store), ScriptedVoice()
    failed = 0

    async def fail(call: StoreCall) -> None:
        nonlocal failed
        if begins(call) and failed < 3:
            failed += 1
            raise fault

    store.after = fail
    queue = await enqueued(store, CALLS)
    async with time_passing(clock, step=SLOWLY):
        await worker_for(store, voice).drain()
    assert await states(queue) == {"accepted": CALLS}
    assert (len(voice.placed), failed) == (CALLS, 3)


async def test_a_worker_that_is_stopped_says_so_while_its_grace_lasts(any_store: Store, clock: ManualClock) -> None:
    store = FaultyStore(any_store)
    queue, voice = await enqueued(store, CALLS), ScriptedVoice()
    worker = worker_for(store, voice)

    async def stop(call: StoreCall) -> None:
        if begins(call):
            store.lose(Loss.BEFORE, "write", times=20)
            store.before = FaultyStore(any_store).before
            worker.stop()

    store.before = stop
    async with time_passing(clock, step=SLOWLY):
        await worker.run()
    assert (await states(queue), voice.placed) == ({"queued": CALLS}, [])
    assert store.still_to_lose == 0


def leases(call: StoreCall) -> bool:
    """Whether this leases calls."""
    return call.name == "lease"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("rate", [None, 50])
@pytest.mark.parametrize("moment", [leases, begins])
async def test_a_worker_whose_task_is_cancelled_puts_back_the_calls_that_it_took(
    any_store: Store, clock: ManualClock, moment: Callable[[StoreCall], bool], rate: float | None
) -> None:
    """As by `asyncio.wait_for` or the end of `asyncio.run`, which no scope shields from."""
    store, voice = FaultyStore(any_store), ScriptedVoice()
    queue = await enqueued(store, CALLS)
    task = asyncio.ensure_future(worker_for(store, voice, rate=rate).run())

    async def cut(call: StoreCall) -> None:
        if moment(call) and not voice.placed:
            task.cancel()
            await asyncio.sleep(0)

    store.after = cut
    async with time_passing(clock, step=SLOWLY):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await states(queue) == {"queued": CALLS}
    assert voice.placed == []
