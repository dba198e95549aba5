"""The form in which the functions of the database take a bulk write, and in which jobs and answers come back.

A bulk write is JSON; its puts, drops and events are those of the port. A missing text or time is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from voiceflow_worker.backends.postgres.connection import Row
from voiceflow_worker.backends.record import (
    TOMBSTONE,
    from_micros,
    job_from,
    record_of,
    to_micros,
    to_micros_or_none,
    tombstone_of,
    unstorable,
)
from voiceflow_worker.core.ports.controls import GATES, gate_member
from voiceflow_worker.core.ports.identity import queue_of
from voiceflow_worker.core.ports.store import (
    Absent,
    AtMost,
    Before,
    BulkWrite,
    Condition,
    Delete,
    Edit,
    Handover,
    Insert,
    OpenGate,
    Owner,
    Put,
    Record,
    Replace,
    Result,
    Same,
    Slot,
    Write,
    WriteResult,
)
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import outcome_name

JOB = """id, queue, state, due_at, revision, worker_id, urgency, batch_id, destination, unique_key, valid_until,
       active_until, body_digest, record, body"""
"""The columns of a job that `job_of` reads."""
RECORD = "group_name, value, ends_at, member"
"""The columns of a record that `record_from` reads."""
_OF_INSERT = ("id", "queue", "urgency", "batch_id", "destination", "unique_key", "valid_until", "body_digest")
_OF_MOVE = ("state", "due_at", "revision", "worker_id", "active_until")
_PLAIN = {
    "done": WriteResult(result=Result.DONE),
    "again": WriteResult(result=Result.DONE),
    "stale": WriteResult(result=Result.STALE),
    "not_verified": WriteResult(result=Result.NOT_VERIFIED),
    "rolled_back": WriteResult(result=Result.ROLLED_BACK),
}


def plain_bulk(
    bulk: BulkWrite,
    writes: Sequence[Write],
    *,
    now: datetime,
    store_id: str | None = None,
    clock_at: datetime | None = None,
) -> str:
    """A bulk write, or a part of it, as `write.sql` takes it: for the store with this id, if one is given.

    `clock_at` is the time of a clock that replaces the server's.

    Raises InvalidInputError for a text that cannot be stored.
    """
    plain: dict[str, Any] = {
        "store": store_id,
        "now": now,
        "together": bulk.together,
        "durable": bulk.durable,
        "guard": None,
        "writes": [_plain_write(write, clock_at) for write in writes],
    }
    if bulk.guard is not None:
        plain["guard"] = {"server": bulk.guard.server, "known": _plain_same(bulk.guard.known, bulk.writes)}
    try:
        return msgspec.json.encode(plain).decode()
    except UnicodeEncodeError as error:
        raise unstorable(error) from error


def _plain_write(write: Write, clock_at: datetime | None) -> dict[str, Any]:
    queue = None if write.change is None else write.change.job.queue
    return {
        "queue": queue_of(write.events[0].job_id) if write.events else queue,
        "conditions": [_plain_condition(condition, write, clock_at) for condition in write.conditions],
        "puts": write.puts,
        "drops": write.drops,
        "events": write.events,
        "wakes": write.wakes,
        "slot": None if write.slot is None else _plain_slot(write.slot),
        **_plain_change(write),
    }


def _plain_slot(slot: Slot) -> dict[str, Any]:
    return {"queue": slot.queue, "after": slot.after.timestamp(), "until": slot.until.timestamp()}


def _plain_change(write: Write) -> dict[str, Any]:
    match write.change:
        case Insert(job, over):
            row = {name: getattr(job, name) for name in _OF_INSERT} | _changing(job)
            new = {"body": job.body, "numbers": job.numbers, "over": None if over is None else _plain_over(over)}
            return {"kind": "insert", "job": row, **new, **_of_job(job, write)}
        case Edit(revision, job):
            edited = {**_changing(job), "urgency": job.urgency, "valid_until": job.valid_until}
            return {"kind": "replace", "old": revision, "job": edited, "body": job.body, **_of_job(job, write)}
        case Replace(revision, job):
            return {"kind": "replace", "old": revision, "job": _changing(job), **_of_job(job, write)}
        case Delete(job, keep_key_until):
            left = {"numbers": job.numbers, "tombstone": _tombstone(job, keep_key_until)}
            return {"kind": "delete", "old": job.revision, **left, **_of_job(job, write)}
        case None:
            return {"kind": None}


def _plain_over(over: Handover) -> dict[str, Any]:
    """The owner that gives its key up, the revision that it must have, and its next version; None for a tombstone."""
    change = over.change
    released = {} if change is None else {"old": change.revision, "job": _changing(change.job)}
    return {"owner": over.owner, **released}


def _of_job(job: Job, write: Write) -> dict[str, Any]:
    return {"id": job.id, "batch": job.batch_id, "tally": write.tally}


def _tombstone(job: Job, keep_key_until: datetime | None) -> Put | None:
    if job.unique_key is None or keep_key_until is None:
        return None
    kept = orjson.dumps(tombstone_of(job)).decode()
    return Put(TOMBSTONE, job.queue, kept, keep_key_until, member=job.unique_key)


def _changing(job: Job) -> dict[str, Any]:
    """The columns of a job that its next version may change."""
    changing = {name: getattr(job, name) for name in _OF_MOVE}
    return {**changing, "record": record_of(job), "outcome": outcome_name(job)}


def _plain_condition(condition: Condition, write: Write, clock_at: datetime | None) -> dict[str, Any]:
    match condition:
        case Absent(namespace, groups, owner):
            return {"kind": "absent", "namespace": namespace, "groups": groups, "owner": owner}
        case AtMost(namespace, group, most, owner):
            return {"kind": "most", "namespace": namespace, "groups": (group,), "most": most, "owner": owner}
        case Same():
            return _plain_same(condition, (write,))
        case OpenGate(queue, batch):
            members = {gate_member(None), gate_member(batch)}
            return {"kind": "gate", "namespace": GATES, "groups": (queue,), "members": list(members)}
        case Before(until):
            return {"kind": "before", "namespace": "", "groups": ("",), "until": until, "at": clock_at}


def _plain_same(condition: Same, writes: Sequence[Write]) -> dict[str, Any]:
    """A `Same` condition, with the values that its own writes put there: the last of them may be of an earlier try."""
    key = (condition.namespace, condition.group, condition.member)
    own = [put.value for write in writes for put in write.puts if (put.namespace, put.group, put.member) == key]
    return {
        "kind": "same",
        "namespace": condition.namespace,
        "groups": (condition.group,),
        "member": condition.member,
        "value": condition.value,
        "own": own,
    }


def answer_from(write: Write, reply: str | dict[str, Any]) -> WriteResult:
    """The answer of `write.sql` to a write."""
    if isinstance(reply, str):
        return _PLAIN[reply]
    if "owner" in reply:
        return WriteResult(result=Result.EXISTS, owner=Owner(*reply["owner"]))
    if "done" in reply:
        return WriteResult(result=Result.DONE, slot=SendSlot(*map(from_micros, reply["done"])))
    if "no_slot" in reply:
        return WriteResult(result=Result.NO_SLOT, slot=SendSlot(None, from_micros(reply["no_slot"])))
    position: int = reply["condition"]
    record = record_from_fields(*reply["record"]) if reply["record"] else None
    return WriteResult(result=Result.NOT_FREE, condition=write.conditions[position], record=record)


def record_from_fields(group: str, value: str, ends_at: str | None, member: str) -> Record:
    """The record in a JSON text of the columns `RECORD`."""
    return record_from(group, value, None if ends_at is None else datetime.fromisoformat(ends_at), member)


def record_from(group: str, value: str, ends_at: datetime | None, member: str) -> Record:
    """The record with the columns `RECORD`. The connection may have another time zone than UTC."""
    return Record(group, value, None if ends_at is None else ends_at.astimezone(UTC), member)


def job_of(row: Row) -> Job:
    """The job in a row of the columns `JOB`. Raises StoreVersionError if a newer version wrote it."""
    job_id, queue, state, due_at, revision, worker_id, urgency, batch, destination, key, valid, active, digest = row[
        :13
    ]
    head = (
        job_id, queue, state, to_micros(due_at), revision, worker_id, urgency, batch, destination, key,
        to_micros_or_none(valid), to_micros_or_none(active), digest,
    )  # fmt: skip
    return job_from(head, row[13], row[14])
