"""Batches: list them, look at one, wait for its end, report, hold, resume and cancel it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter

from voiceflow_worker.actions import UnknownSubjectError
from voiceflow_worker.actions.queues import CancelBatch, Hold, Resume, resume_token
from voiceflow_worker.api.asked import Asked, Reads, Steers, answer
from voiceflow_worker.api.models import (
    NO_HOLD,
    NO_NOTE,
    Batch,
    Batches,
    BatchReport,
    CancelledBatch,
    Gate,
    HoldRequest,
    Id,
    Limit,
    Note,
    QueueName,
    ResumeRequest,
    Wait,
    place,
)
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.outcomes.batch_ends import is_open
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.batches import read_batch, read_batches

routes: Final = APIRouter()


@routes.get("/v1/batches", response_model=Batches)
async def find(
    asked: Reads,
    *,
    queue: QueueName = None,
    limit: Limit = 100,
    after: Annotated[str | None, place(r"^[0-9a-f]{12} ")] = None,
) -> Any:
    """List the batches of a queue, the newest first."""
    calls = asked.queue(queue)
    page = await read_batches(calls.store, [calls.name], after=after or "", limit=limit)
    return answer({"batches": [each.as_json() for each in page.batches], "after": page.after})


@routes.get("/v1/batches/{id}", response_model=Batch)
async def show(asked: Reads, *, batch: Id, queue: QueueName = None, wait: Wait = 0) -> Any:
    """Show a batch: its calls by state, outcomes and answers; with `wait`, wait for its end."""
    calls = await _of(asked, queue, batch)
    if wait and await is_open(calls.store, calls.name, batch):
        await asked.until(partial(calls.wait_for_batch, batch), within=wait)
    return answer(await batch_document(calls, batch))


async def _of(asked: Asked, queue: str | None, batch: str) -> CallQueue:
    """Return the queue of a batch. Raises UnknownSubjectError for one without calls."""
    calls = asked.queue(queue)
    if (unknown := await BatchNames(calls.store, calls.name).why_unknown(batch)) is not None:
        raise UnknownSubjectError(unknown)
    return calls


async def batch_document(queue: CallQueue, batch: str) -> dict[str, object]:
    """Return a batch as JSON. Raises StoreError."""
    progress, report = await read_batch(queue.store, queue.name, batch), await queue.report(batch)
    ended = not await is_open(queue.store, queue.name, batch)
    return {**report.as_json(), **progress.as_json(), "ended": ended}


@routes.get("/v1/batches/{id}/report", response_model=BatchReport)
async def report(asked: Reads, *, batch: Id, queue: QueueName = None) -> Any:
    """Report on a batch."""
    return answer((await (await _of(asked, queue, batch)).report(batch)).as_json())


@routes.post("/v1/batches/{id}/hold", response_model=Gate)
async def hold(asked: Steers, *, batch: Id, queue: QueueName = None, body: HoldRequest = NO_HOLD) -> Any:
    """Send no more calls of a batch."""
    act = Hold(operator=asked.operator, queue=asked.queue(queue).name, batch=batch, note=body.note, lasts=body.lasts)
    return await asked.done(act)


@routes.post("/v1/batches/{id}/resume", response_model=Gate)
async def resume(asked: Steers, *, batch: Id, body: ResumeRequest, queue: QueueName = None) -> Any:
    """End the hold of a batch. The calls of an import that has not ended stay held."""
    act = Resume(operator=asked.operator, queue=asked.queue(queue).name, batch=batch, note=body.note)
    return await asked.done(act, resume_token(body.since, body.most))


@routes.post("/v1/batches/{id}/cancel", response_model=CancelledBatch)
async def cancel(asked: Steers, *, batch: Id, queue: QueueName = None, body: Note = NO_NOTE) -> Any:
    """Cancel a batch for good: its waiting calls, and what is added to it later."""
    act = CancelBatch(operator=asked.operator, queue=asked.queue(queue).name, batch=batch, note=body.note)
    return await asked.done(act)
