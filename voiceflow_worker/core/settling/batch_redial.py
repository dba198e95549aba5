"""Redials of a batch that a person orders: every call that ended with a chosen outcome is queued again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from voiceflow_worker.core.numbers.suppression import SuppressionList, why_refused
from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.core.ports.reading import find_pages, gates_at
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import IllegalMoveError, InvalidInputError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, NoteKind
from voiceflow_worker.model.reports.status import SessionStatus

PAGE = 200
"""The most jobs moved in one step."""

SUPPRESSED = "on the suppression list"
BEFORE = "redialled before"
CANCELLED = "cancelled by a person"
DOUBTFUL = "with another POST in doubt"
SINCE = "that ended after the redial was ordered"
TOO_LATE = "no longer valid, or without an open calling window"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedialledBatch:
    """The result of an order to redial: how many calls were redialled, and how many were left out, by reason."""

    batch_id: str
    redialled: int
    left_out: Mapping[str, int]

    def as_json(self) -> dict[str, object]:
        """The result as JSON, for scripts."""
        return {"batch_id": self.batch_id, "redialled": self.redialled, "left_out": dict(self.left_out)}


async def redial_batch(
    store: Store,
    queue: str,
    batch_id: str,
    on: Iterable[SessionStatus],
    *,
    changes: Changes,
    at: datetime,
    note: str,
    times: int,
    dry_run: bool,
) -> RedialledBatch:
    """Redial the calls of a batch that ended with one of these statuses; a dry run only counts them.

    Calls that ended after `at` are left out, and calls that people have redialled `times` times already. Each job
    counts its redials, so repeating an interrupted order redials nobody twice. Raises InvalidInputError for a cancelled
    batch, and StoreError.
    """
    gate = (await gates_at(store, queue, [batch_id])).get(batch_id)
    if gate is not None and gate.state is GateState.CANCELLED:
        raise InvalidInputError(
            f"batch {batch_id} was cancelled, and its calls are never sent; nothing was redialled. "
            "To call these people, enqueue their rows under another batch id, with new unique keys if they "
            "have keys of their own"
        )
    outcomes = frozenset(status.value for status in on)
    query = Query(queue=queue, states=FINAL_STATES, batch_id=batch_id, outcomes=outcomes, limit=PAGE)
    suppression = SuppressionList(store)
    redialled, left_out = 0, Counter[str]()
    again = partial(lifecycle.redial, at=at, note=note)
    async with aclosing(find_pages(store, query)) as pages:
        async for page in pages:
            ended = [job for job in page if job.touched_at <= at]
            reasons = [why_not(job, at=at, times=times) for job in ended]
            ready = [job for job, reason in zip(ended, reasons, strict=True) if reason is None]
            listed = await suppression.standing([number for job in ready for number in job.parties])
            free = [job for job in ready if why_refused(job, listed, at=at) is None]
            left_out.update(reason for reason in reasons if reason is not None)
            left_out[SUPPRESSED] += len(ready) - len(free)
            left_out[SINCE] += len(page) - len(ended)
            redialled += len(free) if dry_run else await changes.change_all(free, again)
    return RedialledBatch(batch_id=batch_id, redialled=redialled, left_out=+left_out)


def why_not(job: Job, *, at: datetime, times: int) -> str | None:
    """The reason why a call that ended is left out of the redials of its batch; None if it is redialled."""
    if job.open_post is not None:
        return DOUBTFUL
    if lifecycle.was_cancelled(job):
        return CANCELLED
    if sum(note.kind is NoteKind.REDIALLED for note in job.notes) >= times:
        return BEFORE
    try:
        lifecycle.redial(job, at=at, note="")
    except IllegalMoveError:
        return TOO_LATE
    return None
