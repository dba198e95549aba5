"""The form in which scripts take writes and give answers, jobs and events. No script decodes a record or a body.

An optional text is '' if it is missing. Otherwise it is '=' followed by the text, so an empty text differs from a
missing one. A time is in microseconds since 1970 UTC, and '' if it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from voiceflow_worker.backends.plain import Leaves
from voiceflow_worker.backends.record import (
    event_from,
    from_micros,
    job_from,
    newer,
    to_micros,
    tombstone_job,
    tombstone_of,
)
from voiceflow_worker.core.base.identity import queue_of
from voiceflow_worker.core.ports import Event
from voiceflow_worker.core.ports.store import Drop, Owner, Put, Record, Result, Write, WriteResult
from voiceflow_worker.model.jobs.gcra import slot_from
from voiceflow_worker.model.jobs.job import Job

_PLAIN = {
    "done": Result.DONE,
    "stale": Result.STALE,
    "not_verified": Result.NOT_VERIFIED,
}


def optional(text: str | None) -> str:
    """Return an optional text in the form that scripts store: '' for None, otherwise '=' and the text."""
    return "" if text is None else f"={text}"


def micros(time: datetime | None) -> str:
    """Return an optional time in the form that scripts store: '' for None, otherwise microseconds since 1970 UTC."""
    return "" if time is None else str(to_micros(time))


# --- Writes for write.lua -----------------------------------------------------------------------------------------


def _put(put: Put) -> Sequence[str]:
    return put.namespace, put.group, put.member, put.value, micros(put.ends_at), put.mode


def _drop(drop: Drop) -> Sequence[str]:
    return drop.namespace, drop.group, drop.member, optional(drop.value)


def _event(event: Event) -> Sequence[str]:
    return queue_of(event.job_id), micros(event.at), event_text(event)


def _tombstone(job: Job, keep_key_until: datetime) -> Sequence[str]:
    _, unique_key, job_id, digest, state, *times = tombstone_of(job)
    return micros(keep_key_until), f"{job_id}|{digest}|{state}|{orjson.dumps([unique_key, *times]).decode()}"


def _time(time: datetime | None) -> str | None:
    return None if time is None else str(to_micros(time))


LEAVES = Leaves(time=_time, put=_put, drop=_drop, event=_event, tombstone=_tombstone)


def answer_from(write: Write, answer: Sequence[Any]) -> WriteResult:
    match answer:
        case ["exists", owners]:
            return WriteResult(result=Result.EXISTS, owners={new: Owner(*owner) for new, owner in owners.items()})
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


def job_of_row(row: Sequence[str]) -> Job:
    """Return the job, or the tombstone, in a row of a script. Raises StoreVersionError if a newer version wrote it."""
    if len(row) == 1:
        return buried(row[0])
    (job_id, state, due, rev, worker, prio, batch, dest, key, valid, active, digest, record, body) = row
    head = (
        job_id, queue_of(job_id), state, int(due), rev, _text(worker), int(prio), _text(batch), dest[1:], _text(key),
        int(valid) if valid else None, int(active) if active else None, digest,
    )  # fmt: skip
    return job_from(head, record, body)


def records_from(fields: Sequence[str]) -> list[Record]:
    """Return the records that a script returned: a group, a member, a value and an end of each."""
    return [
        Record(group, value, from_micros(int(ends)) if ends else None, member)
        for group, member, value, ends in zip(fields[::4], fields[1::4], fields[2::4], fields[3::4], strict=True)
    ]


def event_of(text: str) -> Event:
    """Return the event in an outbox entry. Raises StoreVersionError for an entry of a newer version."""
    sequence, _, fields = text.partition("|")
    try:
        return event_from(int(sequence), orjson.loads(fields))
    except ValueError as error:
        raise newer(f"event {sequence}", error) from error


def event_text(event: Event) -> str:
    fields = [event.job_id, event.kind, to_micros(event.at), event.state, event.revision, event.post]
    return orjson.dumps(fields).decode()


def buried(tombstone: str) -> Job:
    """Return a deleted job from a tombstone that a script returned. It has only the fields of the tombstone."""
    _, job_id, digest, state, fields = tombstone.split("|", 4)
    unique_key, *times = orjson.loads(fields)
    return tombstone_job((queue_of(job_id), unique_key, job_id, digest, state, *times))


def _text(kept: str) -> str | None:
    return kept[1:] if kept else None
