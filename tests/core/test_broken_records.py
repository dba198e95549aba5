"""Calls, orders and lists whose body or record cannot be read: each is told and ended, and the others are sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from tests.support.everyday import combinations
from tests.support.flows import flow, number
from tests.support.stores import DURABLE, EVERY, running
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import (
    NO_WEBHOOKS,
    at_work,
    damaged,
    enqueued,
    spoilt,
    states,
    store_unread,
    worker_for,
    worker_with_files,
)
from voiceflow_worker import CallPolicy, CallQueue, Job, JobState, Store, SuppressionList
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.calls import CancelCall
from voiceflow_worker.actions.queues import CancelBatch, Hold, Resume
from voiceflow_worker.core import sweep
from voiceflow_worker.core.base import record_set
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import gates_of, limits_of
from voiceflow_worker.core.base.record_set import unreadable_here
from voiceflow_worker.core.drain import DrainCheck
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.core.ports.controls import GATES, LIMITS, gate_member
from voiceflow_worker.core.ports.reads import Expired, Read
from voiceflow_worker.core.ports.store import BulkWrite, Edit, Put, Replace, Write, tally_change
from voiceflow_worker.core.settling.settle import Settler, SummaryResult
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.errors import IllegalMoveError, TooLateError, UnreadableRecordError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.reporting.batches import read_batches, read_queue
from voiceflow_worker.reporting.status import MOST_CHECKED, unreadable_calls

pytestmark = pytest.mark.anyio

PAST = datetime(2020, 1, 1, tzinfo=UTC)
BODIES = [
    "", "{", "[]", "null", "5", '"text"', "{}", '{"callflow": []}', '{"callflow": {}}', '{"callflow": [5, null]}',
    '{"callflow": [{"action": "say"}]}', '{"callflow": [{"action": "makeCall"}]}',
    '{"callflow": [{"action": "makeCall", "params": []}]}',
    '{"callflow": [{"action": "makeCall", "params": {"source": "+6531230001", "destination": 5}}]}',
    ' {"callflow": [{"action": "makeCall", "params": {"destination": "+6531230001"}}]} ',
]  # fmt: skip


live_store = running(*EVERY)


async def sent(store: Store, **options: Any) -> int:
    """How many calls a worker sends until it is drained."""
    voice = ScriptedVoice()
    with anyio.fail_after(30):
        await worker_for(store, voice, options=options).drain()
    return len(voice.placed)


@pytest.mark.parametrize(("live_store", "body"), combinations(EVERY, BODIES), indirect=["live_store"])
async def test_a_call_whose_body_is_broken_ends_with_its_reason_and_the_others_are_sent(
    live_store: Store, body: str
) -> None:
    bad = await damaged(live_store, lambda job: replace(job, revision="x", body=body))
    assert await sent(live_store) == 2
    queue = await enqueued(live_store, 0)
    assert await states(queue) == {"accepted": 2, "failed": 1}
    assert "its body in the store is broken" in ((await queue.get(bad.id)).reason or "")


@pytest.mark.parametrize("live_store", DURABLE, indirect=True)
async def test_a_call_that_cannot_be_read_is_counted_and_stops_no_drain(live_store: Store) -> None:
    bad = await damaged(live_store, spoilt)
    queue = await enqueued(live_store, 0)
    assert (await unreadable_calls(live_store, "default")).count == 1
    assert await sent(live_store, lease=timedelta(seconds=2)) == 2
    status = await queue.status()
    assert (status.unreadable.count, status.unreadable.is_exact) == (1, True)
    assert bad.id in status.unreadable.example
    with pytest.raises(UnreadableRecordError, match=f"damaged.*`voiceflow calls cancel {bad.id}` ends the call"):
        await queue.get(bad.id)


@pytest.mark.parametrize(
    ("live_store", "state"),
    combinations(DURABLE, [each for each in JobState if not each.is_final]),
    indirect=["live_store"],
)
async def test_a_person_ends_a_call_that_cannot_be_read_and_the_queue_goes_on(
    live_store: Store, state: JobState
) -> None:
    """It counts under `max_active` until then. A call that may have been sent counts as placed."""
    far = live_store.clock.now() + timedelta(hours=1)
    is_open = state is not JobState.QUEUED
    bad = await damaged(
        live_store,
        lambda job: replace(spoilt(job), state=state, due_at=far, active_until=far if is_open else None),
    )
    queue, act = await enqueued(live_store, 0), CancelCall(operator=Operator(live_store, NO_WEBHOOKS), call=bad.id)
    options = {"max_active": 1}
    if is_open:
        voice = ScriptedVoice()
        with anyio.move_on_after(0.3):
            await worker_for(live_store, voice, options=options).run()
        assert voice.placed == []
    (document,) = (await act.do()).documents
    is_unsent = state in {JobState.QUEUED, JobState.LEASED}
    assert document["state"] == ("cancelled" if is_unsent else "accepted")
    assert "its record could not be read" in str(document["reason"])
    assert (await queue.get(bad.id)).noted_at <= live_store.clock.now(), "else the clock of the store looks set back"
    assert (await unreadable_calls(live_store, "default")).count == 0
    assert await sent(live_store, **options) == 2
    assert await states(queue) == ({"accepted": 2, "cancelled": 1} if is_unsent else {"accepted": 3})
    if is_unsent:
        assert "cancelled already" in (await act.do()).message
    else:
        with pytest.raises(TooLateError):
            await act.do()
    with pytest.raises(IllegalMoveError, match="so its calling window is not known; enqueue a new call"):
        await queue.redial(bad.id, force=True)


@pytest.mark.parametrize("live_store", DURABLE, indirect=True)
async def test_a_call_that_a_person_ended_unread_is_not_taken_for_a_loss_of_the_store(
    live_store: Store, tmp_path: Path
) -> None:
    """Its journal file knows a POST that went with its record: the queue goes on, and the call stays ended."""
    queue = await enqueued(live_store, 1)
    with anyio.fail_after(20):
        await worker_with_files(live_store, ScriptedVoice(), tmp_path).drain()
    (job,) = await queue.find()
    bad = spoilt(replace(job, state=JobState.SENDING))
    await store_unread(live_store, Write(changes=(Replace(job.revision, bad, tally_change(job, bad)),)))
    await queue.cancel(job.id)
    await enqueued(live_store, 1, first=1)
    with anyio.fail_after(20):
        await worker_with_files(live_store, voice := ScriptedVoice(), tmp_path).drain()
    assert len(voice.placed) == 1
    assert await states(queue) == {"accepted": 2}
    assert (await queue.status()).holds == ()


@pytest.mark.parametrize("by_session", [False, True])
@pytest.mark.parametrize("live_store", DURABLE, indirect=True)
async def test_who_opts_out_in_a_call_that_was_ended_unread_is_not_called_again(
    live_store: Store, by_session: bool
) -> None:
    """The call has lost its POSTs: its late summary settles nothing, but what the person asked for holds."""
    queue = await enqueued(live_store, 2)
    assert await sent(live_store) == 2
    settler = Settler(live_store, NO_WEBHOOKS)
    jobs = await queue.find()
    for job, status in zip(jobs, (SessionStatus.COMPLETED_UNSUBSCRIBED, SessionStatus.COMPLETED), strict=True):
        bad = spoilt(replace(job, state=JobState.SENDING))
        await store_unread(live_store, Write(changes=(Replace(job.revision, bad, tally_change(job, bad)),)))
        await queue.cancel(job.id)
        post = job.posts[-1]
        known = None if by_session else post.client_request_id
        summary = SessionSummary(session_id=post.session_id, client_request_id=known, status=status)
        for _ in range(2):
            opts_out = status is SessionStatus.COMPLETED_UNSUBSCRIBED
            assert await settler.summary(summary) is SummaryResult[("SETTLED" if opts_out else "UNKNOWN")]
        assert (await queue.get(job.id)).state is JobState.ACCEPTED
    (listed,) = await SuppressionList(live_store).scan()
    assert (listed.number, listed.reason) == (jobs[0].destination, "opted out: COMPLETED_UNSUBSCRIBED")


@pytest.mark.parametrize("live_store", DURABLE, indirect=True)
async def test_calls_that_cannot_be_read_hide_no_other_from_the_sweep(
    live_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PAGE", 2)
    for _ in range(9):
        await damaged(live_store, lambda job: replace(spoilt(job), valid_until=PAST, revision=new_revision()), calls=1)
    queue = await enqueued(live_store, 3)
    for job in await queue.find(limit=None):
        late = replace(job, valid_until=PAST, revision=new_revision())
        await live_store.write(
            BulkWrite(writes=(Write(changes=(Edit(job.revision, late),)),)), now=live_store.clock.now()
        )
    await sweep.Sweeper(live_store, queue="default", policy=CallPolicy()).sweep()
    assert (await states(queue))["expired"] == 3


@pytest.mark.parametrize("live_store", ["sqlite"], indirect=True)
async def test_what_a_sweep_reads_of_them_is_bounded_and_so_is_what_it_tells(
    live_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PAGE", 10)
    monkeypatch.setattr(sweep, "UNREADABLE", 200)
    monkeypatch.setattr(record_set, "MOST_REPORTED", unreadable_here() + 150)
    old = await (await enqueued(live_store, 700)).find(limit=None)
    bad = [replace(spoilt(job), valid_until=PAST, revision=new_revision()) for job in old]
    edits = [Write(changes=(Edit(was.revision, job),)) for was, job in zip(old, bad, strict=True)]
    await store_unread(live_store, *edits)
    read, asked = live_store.jobs, list[int | None]()

    async def counted(wanted: Read, *, now: datetime) -> Sequence[Job]:
        if isinstance(wanted, Expired):
            asked.append(wanted.limit)
        return await read(wanted, now=now)

    monkeypatch.setattr(live_store, "jobs", counted)
    sweeper = sweep.Sweeper(live_store, queue="default", policy=CallPolicy())
    with capture_logs() as logs:
        for _ in range(3):
            await sweeper.sweep()
    assert asked == 3 * [10, 40, 160, 640]
    told = [line["reason"] for line in logs if "a record is skipped" in line["event"]]
    assert len(told) == len(set(told)) == 150


@pytest.mark.parametrize("live_store", DURABLE, indirect=True)
async def test_what_is_read_to_count_them_is_bounded(live_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await damaged(live_store, spoilt, calls=2 * MOST_CHECKED)
    asked: list[object] = []
    read = live_store.jobs

    async def counted(wanted: Read, *, now: datetime) -> Sequence[Job]:
        found = await read(wanted, now=now)
        asked.append(len(found))
        return found

    monkeypatch.setattr(live_store, "jobs", counted)
    found = await unreadable_calls(live_store, "default")
    assert (asked, found.in_words()) == ([MOST_CHECKED - 1], "at least 1 call cannot be read")


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
    "10 1 - 0",
    "10 1",
    "",
    "fast 1 -",
    "10 1 many",
    "nan 1 -",
    "-1 1 -",
    "10 0 -",
    "10 1 -1",
    '{"rate": 10}',
]


async def put(store: Store, namespace: str, group: str, value: str, *, batch: str | None = None) -> None:
    write = Write(puts=(Put(namespace, group, value, None, member=gate_member(batch)),), wakes="default")
    await store.write(BulkWrite(writes=(write,)), now=store.clock.now())


def mary(store: Store) -> Operator:
    return Operator(store, NO_WEBHOOKS, "Mary Tan")


ORDERS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "hold": lambda store: Hold(operator=mary(store), queue="default").do(),
    "hold of a batch": lambda store: Hold(operator=mary(store), queue="default", batch="march").do(),
    "cancel": lambda store: CancelBatch(operator=mary(store), queue="default", batch="march").do(),
}


@pytest.mark.parametrize(("live_store", "form"), combinations(EVERY, GATE_FORMS), indirect=["live_store"])
async def test_a_gate_of_another_batch_that_cannot_be_read_keeps_no_order_from_working(
    live_store: Store, form: str
) -> None:
    queue = await enqueued(live_store, CALLS, batch="march")
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
    await enqueued(live_store, CALLS, batch="march")
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
        async with at_work(worker):
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
    assert await sent(live_store) == 2
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
    await queue.enqueue(flow(number(count + 1)), batch="other", not_before=live_store.clock.now() + timedelta(days=1))
    await enqueued(live_store, count, batch="march", not_before=live_store.clock.now() + timedelta(days=1))
    workers = [worker_for(live_store, ScriptedVoice()) for _ in range(2)]
    async with anyio.create_task_group() as group:
        for worker in workers:
            group.start_soon(worker.run)
        await until(lambda: _has_limits(live_store))
        assert await queue.cancel_batch("march") == count
        assert await states(queue) == {"queued": 1, "cancelled": count}
        for worker in workers:
            worker.stop()
