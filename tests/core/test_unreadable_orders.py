"""Gates, limits and suppressions in a form that this version cannot read: they stop calls, and no order fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from tests.support.everyday import combinations
from tests.support.flows import flow, number
from tests.support.stores import EVERY, running
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import NO_WEBHOOKS, enqueued, states, worker_for
from voiceflow_worker import CallQueue, Store, SuppressionList
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.queues import CancelBatch, Hold, Resume
from voiceflow_worker.core.base.reading import gates_of, limits_of
from voiceflow_worker.core.drain import DrainCheck
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.core.ports.controls import GATES, LIMITS, gate_member
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.reporting.batches import read_batches, read_queue

pytestmark = pytest.mark.anyio

CALLS = 3
GATE_FORMS = [
    "",
    "held 1 token",
    "held 999999999999999999999999 token reason",
    '{"state": "held"}',
    "paused 1 token lunch",
]
SUPPRESSION_FORMS = [
    '{"since": "2026-01-01T00:00:00", "reason": "", "job_id": null, "until": null}',
    '{"since": "2026-01-01T00:00:00+00:00", "reason": "", "job_id": null, "until": "2020-01-01T00:00:00"}',
    '{"since": "0001-01-01T00:00:00+14:00", "reason": "", "job_id": null, "until": null}',
    '{"since": "2026-01-01T00:00:00+00:00", "reason": "", "job_id": null, "until": 5}',
    '{"since": "yesterday", "reason": "", "job_id": null, "until": null}',
    "[]",
    "",
]
LIMIT_FORMS = [
    "10 1 - 0 5", "10 1 -", "", "fast 1 - 0", "10 1 many 0", "nan 1 - 0", "-1 1 - 0", "10 0 - 0",
    "10 1 - -1", '{"rate": 10}',
]  # fmt: skip


async def put(store: Store, namespace: str, group: str, value: str, *, batch: str | None = None) -> None:
    write = Write(puts=(Put(namespace, group, value, None, member=gate_member(batch)),), wakes="default")
    await store.write(BulkWrite(writes=(write,)), now=store.clock.now())


def mary(store: Store) -> Operator:
    return Operator(store, NO_WEBHOOKS, "Mary Tan")


live_store = running(*EVERY)


async def sent(store: Store) -> int:
    """How many calls a worker sends until it is drained."""
    voice = ScriptedVoice()
    with anyio.fail_after(20):
        await worker_for(store, voice).drain()
    return len(voice.placed)


ORDERS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "hold": lambda store: Hold(operator=mary(store), queue="default").do(),
    "hold of a batch": lambda store: Hold(operator=mary(store), queue="default", batch="march").do(),
    "cancel": lambda store: CancelBatch(operator=mary(store), queue="default", batch="march").do(),
}


@pytest.mark.parametrize(("live_store", "form"), combinations(EVERY, GATE_FORMS), indirect=["live_store"])
async def test_a_gate_of_another_batch_that_cannot_be_read_keeps_no_order_from_working(
    live_store: Store, form: str
) -> None:
    queue = await enqueued(live_store, CALLS, batch_id="march")
    await put(live_store, GATES, "default", form, batch="old")
    await ORDERS["hold"](live_store)
    assert await sent(live_store) == 0
    await Resume(operator=mary(live_store), queue="default").question()
    await Resume(operator=mary(live_store), queue="default").do()
    await ORDERS["hold of a batch"](live_store)
    assert await sent(live_store) == 0
    status = await queue.status()
    (old,) = (gate for gate in status.holds if gate.name == "old")
    assert "cannot be read" in old.reason or form.endswith(old.reason)  # a new state has its own reason
    assert [batch.batch_id for batch in (await read_batches(live_store, ["default"])).batches] == ["march"]
    await read_queue(live_store, "default")
    await DrainCheck(live_store, queue="default", batch_id=None, policy=NO_WEBHOOKS).result()
    await ORDERS["cancel"](live_store)
    assert await states(queue) == {"cancelled": CALLS}


@pytest.mark.parametrize(
    ("live_store", "form", "batch"), combinations(EVERY, GATE_FORMS, [None, "march"]), indirect=["live_store"]
)
async def test_a_gate_that_cannot_be_read_is_closed_and_a_person_opens_it(
    live_store: Store, form: str, batch: str | None
) -> None:
    await enqueued(live_store, CALLS, batch_id="march")
    await put(live_store, GATES, "default", form, batch=batch)
    assert await sent(live_store) == 0
    (gate,) = await gates_of(live_store, "default")
    assert gate.is_closed(at=live_store.clock.now())
    again = await Hold(operator=mary(live_store), queue="default", batch=batch, note="lunch").do()
    assert "lunch" in again.message
    await Resume(operator=mary(live_store), queue="default", batch=batch).do()
    assert (await worker_for(live_store, ScriptedVoice()).drain()).later == 0


@pytest.mark.parametrize(("live_store", "form"), combinations(EVERY, LIMIT_FORMS), indirect=["live_store"])
async def test_limits_that_cannot_be_read_send_nothing_end_no_worker_and_are_repaired_by_a_rate(
    live_store: Store, form: str
) -> None:
    voice = ScriptedVoice()
    worker = worker_for(live_store, voice, rate=None)
    queue = CallQueue(live_store, policy=NO_WEBHOOKS)
    with capture_logs() as logs, anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await until(lambda: _has_limits(live_store))
            await put(live_store, LIMITS, "default", form)
            await enqueued(live_store, CALLS)
            await until(lambda: any("cannot be read" in log["event"] for log in logs))
            assert voice.placed == []
            status = await queue.status()
            assert status.limits is not None
            assert status.limits.are_unreadable
            await queue.set_rate(100)
            await until(lambda: len(voice.placed) == CALLS)
            worker.stop()
    assert await limits_of(live_store, "default") == Limits(rate=100)


async def _has_limits(store: Store) -> bool:
    return await limits_of(store, "default") is not None


@pytest.mark.parametrize(("live_store", "form"), combinations(EVERY, LIMIT_FORMS), indirect=["live_store"])
async def test_a_worker_that_starts_sets_limits_that_cannot_be_read_anew(live_store: Store, form: str) -> None:
    await enqueued(live_store, CALLS)
    await put(live_store, LIMITS, "default", form)
    voice = ScriptedVoice()
    await worker_for(live_store, voice, rate=1000).drain()
    assert (len(voice.placed), await limits_of(live_store, "default")) == (CALLS, Limits(rate=1000))


@pytest.mark.parametrize(("live_store", "entry"), combinations(EVERY, SUPPRESSION_FORMS), indirect=["live_store"])
async def test_a_suppression_that_cannot_be_read_bars_its_number_and_nobody_else(live_store: Store, entry: str) -> None:
    queue = await enqueued(live_store, CALLS)
    await put(live_store, SUPPRESSED, number(1), entry)
    voice = ScriptedVoice()
    await worker_for(live_store, voice).drain()
    assert len(voice.placed) == 2
    assert await states(queue) == {"accepted": 2, "cancelled": 1}
    listed = SuppressionList(live_store)
    assert [entry.as_json()["until"] for entry in await listed.scan()] == [None]
    assert await listed.remove(number(1)) == [number(1)]


@pytest.mark.parametrize("count", [1, 450])
async def test_a_cancel_beside_workers_counts_all_that_ended_and_leaves_none_waiting(
    live_store: Store, count: int
) -> None:
    """Workers end calls of the batch too: each of them finds pages that the others have half ended."""
    queue = await enqueued(live_store, 0)
    await queue.enqueue(
        flow(number(count + 1)), batch_id="other", not_before=live_store.clock.now() + timedelta(days=1)
    )
    await enqueued(live_store, count, batch_id="march", not_before=live_store.clock.now() + timedelta(days=1))
    workers = [worker_for(live_store, ScriptedVoice()) for _ in range(2)]
    async with anyio.create_task_group() as group:
        for worker in workers:
            group.start_soon(worker.run)
        await until(lambda: _has_limits(live_store))
        assert await queue.cancel_batch("march") == count
        assert await states(queue) == {"queued": 1, "cancelled": count}
        for worker in workers:
            worker.stop()
