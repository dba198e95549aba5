"""Orders are carried out whole or not at all: beside calls of a newer version, and when their caller gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.contract.breaking import newer
from tests.contract.samples import ManualClock
from tests.contract.writing import DONE, next_of, results_of, to
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall, nothing
from tests.support.flows import flow, number
from tests.support.manual_time import time_passing
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, CallRequest, Job, JobState, Store, SuppressionList
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import count_states, find_jobs
from voiceflow_worker.core.ports.reads import ById, Due
from voiceflow_worker.core.ports.store import BulkWrite, WriteResult
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import IllegalMoveError, KeyConflictError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio


async def test_an_enqueue_meets_the_call_of_a_newer_version_and_enqueues_all_or_none(any_store: Store) -> None:
    engine = Engine(any_store, ScriptedVoice())
    job = await engine.enqueue(number(1), unique_key="k")
    assert await results_of(any_store, to(job, next_of(newer(job)))) == [DONE]
    requests = [
        CallRequest(flow=flow(number(2))),
        CallRequest(flow=flow(number(1)), unique_key="k"),
        CallRequest(flow=flow(number(3))),
    ]
    other = CallRequest(flow=flow(number(4)), unique_key="k")
    with pytest.raises(KeyConflictError, match=job.id):
        await engine.queue.enqueue_many([requests[0], other, requests[2]])
    assert (await count_states(any_store, "default"))[JobState.QUEUED] == 0
    made = await engine.queue.enqueue_many(requests)
    assert [each.created for each in made] == [True, False, True]
    assert made[1].job.id == job.id
    assert made[1].job.state in {JobState.IN_DOUBT, newer(job).state}, "memory gives the call itself"
    assert (await count_states(any_store, "default"))[JobState.QUEUED] == 2


@pytest.mark.parametrize("order", ["hold", "cancel_batch", "opt_out"])
async def test_an_order_is_carried_out_while_a_newer_version_settles_a_call_that_was_sending(
    any_store: Store, clock: ManualClock, order: str
) -> None:
    store = FaultyStore(any_store)
    engine = Engine(store, ScriptedVoice())
    await QueueNames(store).remember("default")
    await engine.enqueue(number(1), batch_id="march")
    await engine.journal()
    waiting = await engine.enqueue(number(2), batch_id="march")

    async def settles(call: StoreCall) -> None:
        if call.name != "jobs" or not isinstance(call.arguments[0], ById):
            return
        store.before = nothing
        (sending,) = await find_jobs(any_store, Due(queue="default", state=JobState.SENDING))
        assert await results_of(any_store, to(sending, next_of(newer(sending)))) == [DONE]

    store.before = settles
    async with time_passing(clock):
        if order == "hold":
            await engine.queue.hold(batch_id="march", reason="lunch")
        elif order == "cancel_batch":
            assert await engine.queue.cancel_batch("march") == 1
        else:
            await SuppressionList(store).add(number(1), number(2))
    assert store.before is nothing, "a newer version settled the call"
    assert await engine.send() == []
    assert await engine.state(waiting) == ("queued" if order == "hold" else "cancelled")


@pytest.mark.parametrize("when", ["before it is read", "while it is written"])
async def test_a_call_of_a_cancelled_batch_is_not_redialled(any_store: Store, clock: ManualClock, when: str) -> None:
    store = FaultyStore(any_store)
    engine = Engine(store, ScriptedVoice())
    await engine.enqueue(number(1), batch_id="march")
    (job,) = await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)

    async def cancel() -> None:
        async with time_passing(clock):
            await Engine(any_store, ScriptedVoice()).queue.cancel_batch("march")

    async def cancels(call: StoreCall) -> None:
        if call.name == "write":
            store.before = nothing
            await cancel()

    if when == "while it is written":
        store.before = cancels
    else:
        await cancel()
    with pytest.raises(IllegalMoveError, match="its batch march was cancelled, and its calls are never sent"):
        await engine.queue.redial(job.id)
    assert store.before is nothing
    assert await engine.state(job) == "unreached"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_order_that_its_caller_gave_up_is_not_carried_out_later(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(any_store, ScriptedVoice())
    jobs = [await engine.enqueue(number(place)) for place in range(3)]
    changes, going, asked = Changes(any_store, CallPolicy()), anyio.Event(), anyio.Event()
    store_write = any_store.write

    async def slow(bulk: BulkWrite, **rest: Any) -> list[WriteResult]:
        asked.set()
        await going.wait()
        return list(await store_write(bulk, **rest))

    monkeypatch.setattr(any_store, "write", slow)
    cancelled: Callable[[Job], Job] = lambda job: lifecycle.cancel(  # noqa: E731
        job, at=any_store.clock.now(), reason="by a person", policy=CallPolicy()
    )
    first = asyncio.ensure_future(changes.change(jobs[0].id, cancelled))
    await asked.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(changes.change(jobs[1].id, cancelled), 0.01)
    last = asyncio.ensure_future(changes.change(jobs[2].id, cancelled))
    await asyncio.sleep(0)
    going.set()
    await first
    await last
    assert [await engine.state(job) for job in jobs] == ["cancelled", "queued", "cancelled"]
