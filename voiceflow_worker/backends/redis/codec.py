"""The form in which scripts take writes and give answers, jobs and events. No script decodes a record or a body.

An optional text is '' if it is missing. Otherwise it is '=' followed by the text, so an empty text differs from a
missing one. A time is in microseconds since 1970 UTC, and '' if it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from voiceflow_worker.backends.record import (
    event_from,
    from_micros,
    job_from,
    newer,
    record_of,
    to_micros,
    tombstone_job,
    tombstone_of,
)
from voiceflow_worker.core.ports import Event
from voiceflow_worker.core.ports.controls import gate_member
from voiceflow_worker.core.ports.identity import queue_of
from voiceflow_worker.core.ports.store import (
    Absent,
    AtMost,
    Before,
    Condition,
    Delete,
    Edit,
    Handover,
    Insert,
    OpenGate,
    Owner,
    Record,
    Replace,
    Result,
    Same,
    Slot,
    Write,
    WriteResult,
)
from voiceflow_worker.model.jobs.gcra import slot_from
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import outcome_name

_PLAIN = {
    "done": Result.DONE,
    "stale": Result.STALE,
    "not_verified": Result.NOT_VERIFIED,
    "rolled_back": Result.ROLLED_BACK,
}


def optional(text: str | None) -> str:
    """An optional text in the form that scripts store: '' for None, otherwise '=' and the text."""
    return "" if text is None else f"={text}"


def micros(time: datetime | None) -> str:
    """An optional time in the form that scripts store: '' for None, otherwise microseconds since 1970 UTC."""
    return "" if time is None else str(to_micros(time))


# --- Writes for write.lua -----------------------------------------------------------------------------------------


def plain_write(write: Write, clock_at: datetime | None = None) -> dict[str, Any]:
    """A write as `write.lua` takes it; `clock_at` is the time of a clock that replaces the server's."""
    change = write.change
    queue = "-" if change is None else change.job.queue
    if write.events:
        queue = queue_of(write.events[0].job_id)
    return {
        "queue": queue,
        "conditions": [_plain_condition(condition, write, clock_at) for condition in write.conditions],
        "puts": [
            (put.namespace, put.group, put.member, put.value, micros(put.ends_at), put.mode) for put in write.puts
        ],
        "drops": [(drop.namespace, drop.group, drop.member, optional(drop.value)) for drop in write.drops],
        "events": [(micros(event.at), event_text(event)) for event in write.events],
        "tally": write.tally,
        "wakes": write.wakes or "",
        **({} if write.slot is None else {"slot": _plain_slot(write.slot)}),
        **_plain_change(write),
    }


def _plain_slot(slot: Slot) -> dict[str, str]:
    # Seconds in a form that restores the same double.
    return {
        "queue": slot.queue,
        "after": repr(slot.after.timestamp()),
        "latest": repr(slot.until.timestamp()),
    }


def _plain_change(write: Write) -> dict[str, Any]:
    match write.change:
        case Insert(job, over):
            fields = _changing(job) | {
                "prio": str(job.urgency),
                "batch": optional(job.batch_id),
                "dest": optional(job.destination),
                "key": optional(job.unique_key),
                "valid": micros(job.valid_until),
                "body": job.body,
                "digest": job.body_digest,
            }
            new = {"id": job.id, "new": job.revision, "key": optional(job.unique_key), "numbers": job.numbers}
            return {"kind": "insert", **new, "job": fields, **({} if over is None else {"over": _plain_over(over)})}
        case Edit(revision, job):
            edited = {"prio": str(job.urgency), "valid": micros(job.valid_until), "body": job.body}
            fields = _changing(job) | edited
            return {"kind": "move", "id": job.id, "old": revision, "new": job.revision, "job": fields}
        case Replace(revision, job):
            return {"kind": "move", "id": job.id, "old": revision, "new": job.revision, "job": _changing(job)}
        case Delete(job, keep_key_until):
            kept = "" if keep_key_until is None else _tombstone_of(job)
            tombstone = {"keep_until": micros(keep_key_until), "tombstone": kept, "numbers": job.numbers}
            return {"kind": "delete", "id": job.id, "old": job.revision, **tombstone}
        case None:
            return {"kind": ""}


def _plain_over(over: Handover) -> dict[str, Any]:
    change = over.change
    if change is None:
        return {"owner": over.owner, "old": ""}
    return {"owner": over.owner, "old": change.revision, "new": change.job.revision, "record": record_of(change.job)}


def _changing(job: Job) -> dict[str, str]:
    """The fields of a job that its next version may change."""
    return {
        "state": job.state.value,
        "due": micros(job.due_at),
        "worker": optional(job.worker_id),
        "active": micros(job.active_until),
        "record": record_of(job),
        "outcome": optional(outcome_name(job)),
    }


def _plain_condition(condition: Condition, write: Write, clock_at: datetime | None) -> dict[str, Any]:
    match condition:
        case Absent(namespace, groups, owner):
            return {"kind": "absent", "namespace": namespace, "groups": groups, "owner": owner or ""}
        case AtMost(namespace, group, most, owner):
            return {"kind": "most", "namespace": namespace, "group": group, "most": most, "owner": owner or ""}
        case Same():
            return plain_same(condition, (write,))
        case OpenGate(queue, batch):
            return {"kind": "gate", "group": queue, "batch": gate_member(batch)}
        case Before(until):
            return {"kind": "before", "ends": micros(until), "at": micros(clock_at)}


def plain_same(condition: Same, writes: Sequence[Write]) -> dict[str, Any]:
    """A `Same` condition, with its own new value, which counts as of an earlier try."""
    key = (condition.namespace, condition.group, condition.member)
    own = [put.value for write in writes for put in write.puts if (put.namespace, put.group, put.member) == key]
    return {
        "kind": "same",
        "namespace": condition.namespace,
        "group": condition.group,
        "member": condition.member,
        "values": [optional(condition.value), *map(optional, own)],
        "own": optional(own[-1] if own else None),
    }


def answer_from(write: Write, answer: Sequence[Any]) -> WriteResult:
    """The answer of `write.lua` to a write."""
    match answer:
        case ["exists", owner, digest, state, ""]:
            return WriteResult(result=Result.EXISTS, owner=Owner(owner, digest, state))
        case ["exists", _, _, _, tombstone]:
            _, owner, digest, state, _ = tombstone.split("|", 4)
            return WriteResult(result=Result.EXISTS, owner=Owner(owner, digest, state))
        case ["not free", int(place), group, member, value, ends]:
            record = None if value is False else records_from((group, member, value, ends))[0]
            return WriteResult(result=Result.NOT_FREE, condition=write.conditions[place], record=record)
        case ["done", at, next_at]:
            return WriteResult(result=Result.DONE, slot=slot_from(float(at), float(next_at)))
        case ["no slot", next_at]:
            return WriteResult(result=Result.NO_SLOT, slot=slot_from(None, float(next_at)))
        case [plain]:
            return WriteResult(result=_PLAIN[plain])
        case _:
            raise ValueError(f"the script write.lua gave an unknown answer: {answer!r}")


# --- Jobs, records and events ------------------------------------------------------------------------------------


def job_of_row(queue: str, row: Sequence[str]) -> Job:
    """The job, or the tombstone, in a row of a script. Raises StoreVersionError if a newer version wrote it."""
    if len(row) == 1:
        return buried(queue, row[0])
    (job_id, state, due, rev, worker, prio, batch, dest, key, valid, active, digest, record, body) = row
    head = (
        job_id, queue, state, int(due), rev, _text(worker), int(prio), _text(batch), dest[1:], _text(key),
        int(valid) if valid else None, int(active) if active else None, digest,
    )  # fmt: skip
    return job_from(head, record, body)


def records_from(fields: Sequence[str]) -> list[Record]:
    """The records that a script returned: a group, a member, a value and an end of each."""
    return [
        Record(group, value, from_micros(int(ends)) if ends else None, member)
        for group, member, value, ends in zip(fields[::4], fields[1::4], fields[2::4], fields[3::4], strict=True)
    ]


def event_of(text: str) -> Event:
    """The event in an outbox entry. Raises StoreVersionError for an entry of a newer version."""
    sequence, _, fields = text.partition("|")
    try:
        return event_from(int(sequence), orjson.loads(fields))
    except ValueError as error:
        raise newer(f"event {sequence}", error) from error


def event_text(event: Event) -> str:
    """An event without its sequence, as it is stored."""
    fields = [event.job_id, event.kind, to_micros(event.at), event.state, event.revision, event.post]
    return orjson.dumps(fields).decode()


def _tombstone_of(job: Job) -> str:
    _, unique_key, job_id, digest, state, *times = tombstone_of(job)
    return f"{job_id}|{digest}|{state}|{orjson.dumps([unique_key, *times]).decode()}"


def buried(queue: str, tombstone: str) -> Job:
    """A deleted job, rebuilt from a tombstone that a script returned. It has only the fields of the tombstone."""
    _, job_id, digest, state, fields = tombstone.split("|", 4)
    unique_key, *times = orjson.loads(fields)
    return tombstone_job((queue, unique_key, job_id, digest, state, *times))


def _text(kept: str) -> str | None:
    return kept[1:] if kept else None
