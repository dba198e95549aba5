"""Batches: list them, look at one, wait for its end, report, hold, resume, cancel and edit it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from voiceflow_worker.actions import UnknownSubjectError
from voiceflow_worker.actions.edits import EditBatch
from voiceflow_worker.actions.imports import DiscardStaged, ReleaseStaged
from voiceflow_worker.actions.queues import CancelBatch, Hold, Resume
from voiceflow_worker.api.answers import Answer, etag, unfit
from voiceflow_worker.api.exchange import Asked
from voiceflow_worker.api.operations import AFTER, Json, Note, Operation, PageOf, Preview, Schema, TimeTold, Told, Wait
from voiceflow_worker.api.queues import Gate, HoldRequest
from voiceflow_worker.campaigns.fields import EDITED, properties_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.outcomes.batch_ends import is_open
from voiceflow_worker.core.ports.names import BatchNames
from voiceflow_worker.core.reporting.batches import read_batch, read_batches

BATCH_EDIT: Final = Schema(
    "BatchEdit",
    {
        "type": "object",
        "description": "Fields as of a campaign. What is left out stays.",
        "additionalProperties": False,
        "properties": {"note": {"type": ["string", "null"]}, **properties_of(Of.CAMPAIGN, EDITED)},
    },
)


class BatchPage(PageOf):
    """A page of batches."""

    after: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12} ")] | None = Field(None, description=AFTER)


class StagedRequest(Note):
    """An order about a batch, or about its staged calls alone."""

    staged: bool | None = Field(
        None, description="true: only the calls that an interrupted import has staged in the batch."
    )


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


class BatchFigures(Told):
    """The figures of a report."""

    batch_id: str
    total: int
    states: dict[str, int]
    outcomes: dict[str, int]
    answered: int = 0
    answer_rate: float | None = None
    answers: dict[str, int]
    seconds: float = 0
    cost: dict[str, float] | None = None


class Batch(BatchProgress, BatchFigures):
    """A batch, with the head of its report."""

    ended: bool = Field(description="No call waits, is in progress, or is in doubt.")


class BatchReport(BatchFigures):
    """The report of a batch, as `voiceflow report --json` prints it."""


class Batches(Told):
    """A page of batches."""

    batches: list[BatchProgress]
    after: str | None = Field(description="The `after` of the next page; null at the end of the list.")


class EditedBatch(Told):
    """What became of the waiting calls."""

    batch_id: str
    edited: int
    unchanged: int
    later: int = 0
    leaving: int = 0
    too_late: int = 0
    dry_run: bool = False
    first_at: TimeTold | None = None
    last_at: TimeTold | None = None


class ReleasedCalls(Told):
    """The staged calls that ring now."""

    batch_id: str
    released: int


class DiscardedCalls(Told):
    """The staged calls that were discarded."""

    batch_id: str
    discarded: int


class CancelledBatch(Told):
    """The calls that were cancelled."""

    batch_id: str
    cancelled: int


async def find(asked: Asked) -> Answer:
    """`GET /v1/batches`, page by page."""
    query, queue = asked.query(BatchPage), asked.desk.queue
    page = await read_batches(queue.store, [queue.name], after=query.after or "", limit=query.limit)
    return Answer({"batches": [each.as_json() for each in page.batches], "after": page.after})


async def show(asked: Asked) -> Answer:
    """`GET /v1/batches/{id}`, which may wait for its end."""
    queue, batch, wait = asked.desk.queue, await _known(asked), asked.query(Wait).wait
    if wait and await is_open(queue.store, queue.name, batch):
        await asked.until(partial(queue.wait_for_batch, batch), within=wait)
    version = await Hold(**_of(asked)).resource_version()  # before the rest, which may be newer, and never older
    progress, report = await read_batch(queue.store, queue.name, batch), await queue.report(batch, totals_only=True)
    ended = not await is_open(queue.store, queue.name, batch)
    return Answer({**report.as_json(), **progress.as_json(), "ended": ended}, headers=etag(version))


async def report(asked: Asked) -> Answer:
    """`GET /v1/batches/{id}/report`."""
    return Answer((await asked.desk.queue.report(await _known(asked))).as_json())


async def hold(asked: Asked) -> Answer:
    """`POST /v1/batches/{id}/hold`."""
    given = asked.body(HoldRequest)
    return await asked.done(Hold(**_of(asked), note=given.note, lasts=given.lasts))


async def resume(asked: Asked) -> Answer:
    """`POST /v1/batches/{id}/resume`. With `staged`, it lets the staged calls of the batch ring instead."""
    given = asked.body(StagedRequest)
    return await asked.done((ReleaseStaged if given.staged else Resume)(**_of(asked), note=given.note))


async def cancel(asked: Asked) -> Answer:
    """`POST /v1/batches/{id}/cancel`. With `staged`, only the staged calls of the batch."""
    given = asked.body(StagedRequest)
    return await asked.done((DiscardStaged if given.staged else CancelBatch)(**_of(asked), note=given.note))


async def edit(asked: Asked) -> Answer:
    """`PATCH /v1/batches/{id}`. With `dry_run`, what the calls would become."""
    changes = dict(asked.document)
    note = changes.pop("note", None)
    if note is not None and not (isinstance(note, str) and len(note) <= 1000):
        raise unfit("note is not a text of at most 1000 characters")
    act = EditBatch(**_of(asked), note=note, changes=changes)
    if not asked.query(Preview).dry_run:
        return await asked.done(act)
    found = await act.preview()
    return Answer(found.as_json(), headers=etag(found.version))


async def _known(asked: Asked) -> str:
    """The batch in the path. Raises UnknownSubjectError for one without calls."""
    queue, batch = asked.desk.queue, asked.parts["id"]
    if (unknown := await BatchNames(queue.store, queue.name).why_unknown(batch)) is not None:
        raise UnknownSubjectError(unknown)
    return batch


def _of(asked: Asked) -> dict[str, Any]:
    return {"operator": asked.operator, "queue": asked.desk.queue.name, "batch": asked.parts["id"]}


_ORDER: dict[str, Any] = {"method": "POST", "body_required": False, "matched": True, "problems": [409]}
OPERATIONS: Final = (
    Operation(
        method="GET", path="/v1/batches", handle=find, summary="Batches of the queue, the newest first.",
        query=BatchPage, answers={200: ("A page of batches.", [Batches])},
    ),
    Operation(
        method="GET", path="/v1/batches/{id}", handle=show, query=Wait, answers={200: ("The batch.", [Batch])},
        summary="A batch: its calls by state, outcomes, answers and costs.",
    ),
    Operation(
        method="GET", path="/v1/batches/{id}/report", handle=report,
        summary="The report of a batch: also by hour, country and attempts.",
        answers={200: ("The report.", [BatchReport])},
    ),
    Operation(
        method="PATCH", path="/v1/batches/{id}", handle=edit, query=Preview, body=BATCH_EDIT, matched=True,
        summary="Change the waiting calls of a batch. Calls that were sent stay as they are.", problems=[409],
        answers={200: ("What became of the waiting calls.", [EditedBatch])},
    ),
    Operation(
        path="/v1/batches/{id}/hold", handle=hold, summary="Send no more calls of a batch.", body=HoldRequest,
        answers={200: ("The hold of the batch, as it is now.", [Gate])}, **_ORDER,
    ),
    Operation(
        path="/v1/batches/{id}/resume", handle=resume, body=StagedRequest, **_ORDER,
        summary="End the hold of a batch; or let its staged calls ring.",
        answers={200: ("The hold of the batch, as it is now; or the calls that were released.", [Gate, ReleasedCalls])},
    ),
    Operation(
        path="/v1/batches/{id}/cancel", handle=cancel, body=StagedRequest, **_ORDER,
        summary="Cancel a batch for good: its waiting calls, and what is added to it later.",
        answers={200: ("The calls that were cancelled.", [CancelledBatch, DiscardedCalls])},
    ),
)  # fmt: skip
