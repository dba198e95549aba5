"""Calls that are leased together go through the store together; what a stop keeps from leaving is queued again."""

from __future__ import annotations

from datetime import datetime

import anyio
import pytest

from tests.contract.suite import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import number
from tests.support.manual_time import passing
from tests.support.stores import clocked
from tests.support.voices import GatedVoice, ScriptedVoice, created
from tests.support.workers import enqueued, set_limits, worker_for
from voiceflow_worker import CallQueue, JobState
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.ports import Limits, Placement
from voiceflow_worker.core.ports.store import BulkWrite, Slot, Write
from voiceflow_worker.core.sending.submit import SenderPool, Submitter
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict, VerdictKind

pytestmark = pytest.mark.anyio

CALLS = 20


store = clocked("memory", within=FaultyStore)


async def drained(store: FaultyStore, clock: ManualClock) -> CallQueue:
    """A queue of calls after a worker without a rate has sent them."""
    queue = await enqueued(store, CALLS)
    await passing(clock, worker_for(store, ScriptedVoice(), concurrency=CALLS).drain)
    return queue


class OneAnswerVoice(GatedVoice):
    """Answers the first POST at once. The others wait until `open` is set."""

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        if not self.placed:
            self.placed.append(placement)
            progress.may_have_been_sent = True
            return created(f"session-{placement.client_request_id}")
        return await super().place(placement, progress=progress, now=now)


@pytest.mark.parametrize("slots", [2, 20])
async def test_a_worker_takes_the_next_call_as_soon_as_a_slot_is_free(
    store: FaultyStore, clock: ManualClock, slots: int
) -> None:
    await enqueued(store, slots + 1)
    voice = OneAnswerVoice(bytes_left=True)
    worker = worker_for(store, voice, concurrency=slots)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        with anyio.fail_after(60):
            await voice.reached(slots)  # on a clock that stands still
        worker.stop()
        voice.open.set()
    assert len(voice.placed) == slots + 1


@pytest.mark.parametrize("fault", [StoreUnavailableError("away"), OSError(24, "Too many open files")], ids=str)
async def test_verdicts_that_the_store_does_not_take_together_are_stored_one_by_one(
    store: FaultyStore, clock: ManualClock, fault: Exception
) -> None:
    refused = 0

    async def refuse(call: StoreCall) -> None:
        nonlocal refused
        if any(job.state is JobState.ACCEPTED for job in call.stores) and refused < 3:
            refused += 1
            raise fault

    store.before = refuse
    queue = await drained(store, clock)
    counts = await count_states(store, queue.name)
    assert (refused, counts[JobState.ACCEPTED]) == (3, CALLS)


async def test_journalled_calls_that_a_stop_keeps_from_leaving_are_queued_again(
    store: FaultyStore, voice: ScriptedVoice
) -> None:
    await set_limits(store, "default", Limits(rate=50))
    engine = Engine(store, voice, rate=50)
    jobs = [await engine.enqueue(number(place)) for place in range(3)]
    now = store.clock.now()
    await store.write(
        BulkWrite(writes=(Write(slot=Slot("default", now, now)),)), now=now
    )  # so the calls wait for theirs
    senders = SenderPool(engine.submitter, engine.pacer, on_freed=lambda: None, on_turn=lambda: None)
    dispatches = await engine.prepare()
    senders.add_leased(len(dispatches))
    async with anyio.create_task_group() as group:
        await senders.add(dispatches, group)
        group.start_soon(senders.run, group)
        await senders.wait_until_journalled()
        group.cancel_scope.cancel()
    await engine.store_verdicts()
    after = [await engine.queue.get(job.id) for job in jobs]
    assert [(job.state, job.attempt) for job in after] == [(JobState.QUEUED, 0)] * 3
    assert {job.posts[-1].verdict for job in after} == {VerdictKind.NOT_SENT}
    assert (voice.placed, senders.leased, senders.on_their_way) == ([], 0, 0)


async def test_a_fault_while_calls_are_put_back_keeps_no_journalled_call_from_leaving(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is journalled and neither sent nor settled would end in doubt."""

    async def fails(*_: object, **__: object) -> None:
        raise ValueError("a fault of ours")

    job = await engine.enqueue()
    leased_at = engine.store.clock.monotonic()
    dispatches = await engine.submitter.prepare(await engine.lease(1), leased_at=leased_at)
    monkeypatch.setattr(Submitter, "_settle_rejections", fails)
    await engine.finish(*dispatches)
    assert await engine.state(job) == "submitted"
