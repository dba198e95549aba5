"""Batches: list them, look at one, wait for its end, report, hold, resume and cancel it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, StringConstraints

from voiceflow_worker.actions import UnknownSubjectError
from voiceflow_worker.actions.queues import CancelBatch, Hold, Resume, resume_token
from voiceflow_worker.api.answers import Answer
from voiceflow_worker.api.exchange import Asked
from voiceflow_worker.api.operations import Json, Note, PageOf, Routes, TimeTold, Told, Wait
from voiceflow_worker.api.queues import Gate, HoldRequest, ResumeRequest
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.outcomes.batch_ends import is_open
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.reporting.batches import read_batch, read_batches

routes: Final = Routes()


BatchPlace: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12} ")]


class BatchProgress(Told):
    """A batch, as `voiceflow batches --json` prints it."""

    batch_id: str
    queue: str
    total: int
    states: dict[str, int]
    done: int
    doubts: int
    staged: int = Field(0, description="Calls of an import that has not ended: nobody is called for them.")
    rate_now: float = 0
    ends_at: TimeTold | None = None
    hold: Json | None = None


class BatchReport(Told):
    """The report of a batch, as `voiceflow report --json` prints it."""

    batch_id: str
    total: int
    states: dict[str, int]
    outcomes: dict[str, int]
    answered: int = 0
    answer_rate: float | None = None
    answers: dict[str, int]
    seconds: float = 0


class Batch(BatchProgress, BatchReport):
    """A batch, with the head of its report."""

    ended: bool = Field(description="No call waits, is in progress, or is in doubt.")


class Batches(Told):
    """A page of batches."""

    batches: list[BatchProgress]
    after: str | None = Field(description="The `after` of the next page; null at the end of the list.")


class CancelledBatch(Told):
    """The calls that were cancelled."""

    batch_id: str
    cancelled: int


@routes.on("GET", "/v1/batches", Batches)
async def find(asked: Asked, query: PageOf[BatchPlace]) -> Answer:
    """Batches of the queue, the newest first."""
    queue = asked.context.queue
    page = await read_batches(queue.store, [queue.name], after=query.after or "", limit=query.limit)
    return Answer({"batches": [each.as_json() for each in page.batches], "after": page.after})


@routes.on("GET", "/v1/batches/{id}", Batch)
async def show(asked: Asked, query: Wait) -> Answer:
    """A batch: its calls by state, outcomes and answers.

    It may wait for its end.
    """
    queue, batch = asked.context.queue, await _known(asked)
    if query.wait and await is_open(queue.store, queue.name, batch):
        await asked.until(partial(queue.wait_for_batch, batch), within=query.wait)
    return Answer(await batch_document(queue, batch))


async def batch_document(queue: CallQueue, batch: str) -> dict[str, object]:
    """Return a batch as JSON. Raises StoreError."""
    progress, report = await read_batch(queue.store, queue.name, batch), await queue.report(batch)
    ended = not await is_open(queue.store, queue.name, batch)
    return {**report.as_json(), **progress.as_json(), "ended": ended}


@routes.on("GET", "/v1/batches/{id}/report", BatchReport)
async def report(asked: Asked) -> Answer:
    """The report of a batch."""
    return Answer((await asked.context.queue.report(await _known(asked))).as_json())


@routes.on("POST", "/v1/batches/{id}/hold", Gate)
async def hold(asked: Asked, body: HoldRequest) -> Answer:
    """Send no more calls of a batch."""
    return await asked.done(Hold(**_of(asked), note=body.note, lasts=body.lasts))


@routes.on("POST", "/v1/batches/{id}/resume", Gate)
async def resume(asked: Asked, body: ResumeRequest) -> Answer:
    """End the hold of a batch. The calls of an import that has not ended stay held."""
    return await asked.done(Resume(**_of(asked), note=body.note), resume_token(body.since, body.most))


@routes.on("POST", "/v1/batches/{id}/cancel", CancelledBatch)
async def cancel(asked: Asked, body: Note) -> Answer:
    """Cancel a batch for good: its waiting calls, and what is added to it later."""
    return await asked.done(CancelBatch(**_of(asked), note=body.note))


async def _known(asked: Asked) -> str:
    """The batch in the path. Raises UnknownSubjectError for one without calls."""
    queue, batch = asked.context.queue, asked.parts["id"]
    if (unknown := await BatchNames(queue.store, queue.name).why_unknown(batch)) is not None:
        raise UnknownSubjectError(unknown)
    return batch


def _of(asked: Asked) -> dict[str, Any]:
    return {"operator": asked.operator, "queue": asked.context.queue.name, "batch": asked.parts["id"]}
