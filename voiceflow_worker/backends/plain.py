"""A write in the plain form that servers take: the scripts of Redis, and the functions of PostgreSQL.

Both take the same names. What is missing is left out. How a store writes times, records, events and tombstones is its
own (`Leaves`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from voiceflow_worker.backends.record import record_of
from voiceflow_worker.backends.writing import OwnValues, own_values
from voiceflow_worker.core.ports import Event
from voiceflow_worker.core.ports.store import (
    AtMost,
    Change,
    Condition,
    Delete,
    Drop,
    Edit,
    Insert,
    Put,
    Replace,
    Same,
    Write,
)
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import outcome_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """How a store takes a time, a put, a drop and an event, and what a deleted job leaves, if it leaves anything."""

    time: Callable[[datetime | None], object]
    put: Callable[[Put], object]
    drop: Callable[[Drop], object]
    event: Callable[[Event], object]
    tombstone: Callable[[Job, datetime], object]


def plain_write(write: Write, leaves: Leaves) -> dict[str, Any]:
    """Return a write in plain form."""
    slot, own = write.slot, own_values(write.puts)
    return _present(
        changes=[_plain_change(change, leaves) for change in write.changes],
        conditions=[plain_condition(condition, own) for condition in write.conditions],
        puts=list(map(leaves.put, write.puts)),
        drops=list(map(leaves.drop, write.drops)),
        events=list(map(leaves.event, write.events)),
        wakes=write.wakes,
        slot=slot and {"queue": slot.queue, "after": slot.after.timestamp(), "until": slot.until.timestamp()},
    )


def plain_condition(condition: Condition, own: OwnValues) -> Sequence[object]:
    """Return a condition as an array: its kind, its namespace, its groups, and what else it has.

    A `Same` has the values that its own writes put there: the last of them may be of an earlier try.
    """
    match condition:
        case AtMost(namespace, groups, most, owner):
            return "most", namespace, groups, owner, most
        case Same(namespace, group, value, member, owner):
            ours = own.get((namespace, group, member), ())
            return "same", namespace, (group,), owner, member, value, ours


def _plain_change(change: Change, leaves: Leaves) -> Mapping[str, Any]:
    job = change.job
    of_job = {"id": job.id, "queue": job.queue, "batch": job.batch_id, "tally": change.tally}
    match change:
        case Insert():
            row = _present(
                id=job.id,
                queue=job.queue,
                urgency=job.urgency,
                batch_id=job.batch_id,
                destination=job.destination,
                unique_key=job.unique_key,
                valid_until=leaves.time(job.valid_until),
                body_digest=job.body_digest,
                **_moved(job, leaves),
            )
            return {"kind": "insert", "job": row, "body": job.body, "numbers": job.numbers, **of_job}
        case Replace(revision):
            row = _moved(job, leaves)
            if not isinstance(change, Edit):
                return {"kind": "replace", "old": revision, "job": row, **of_job}
            row |= _present(urgency=job.urgency, valid_until=leaves.time(job.valid_until), destination=job.destination)
            numbers = {} if change.numbers is None else {"had": change.numbers, "numbers": job.numbers}
            return {"kind": "replace", "old": revision, "job": row, "body": job.body, **numbers, **of_job}
        case Delete(keep_key_until=until):
            has_key = job.unique_key is not None and until is not None
            left = {"tombstone": leaves.tombstone(job, until)} if has_key and until is not None else {}
            return {"kind": "delete", "old": job.revision, "numbers": job.numbers, **left, **of_job}


def _moved(job: Job, leaves: Leaves) -> dict[str, Any]:
    """Return the columns of a job that its next version may change."""
    return _present(
        state=job.state,
        due_at=leaves.time(job.due_at),
        revision=job.revision,
        worker_id=job.worker_id,
        active_until=leaves.time(job.active_until),
        record=record_of(job),
        outcome=outcome_name(job),
    )


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
