"""The form in which the functions of the database take a bulk write, and in which jobs and answers come back.

A bulk write is JSON; its puts, drops and events are those of the port.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from voiceflow_worker.backends.plain import Leaves, plain_condition, plain_write
from voiceflow_worker.backends.postgres.survey import Row
from voiceflow_worker.backends.record import (
    TOMBSTONE,
    from_micros,
    job_from,
    to_micros,
    to_micros_or_none,
    tombstone_of,
    unstorable,
)
from voiceflow_worker.backends.writing import own_values
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Owner,
    Put,
    Record,
    Result,
    Write,
    WriteResult,
)
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.jobs.job import Job

JOB = """id, queue, state, due_at, revision, worker_id, urgency, batch_id, destination, unique_key, valid_until,
       active_until, body_digest, record, body"""
"""The columns of a job that `job_of` reads."""
RECORD = "group_name, value, ends_at, member"
"""The columns of a record that `record_from` reads."""
_PLAIN = {
    "done": WriteResult(result=Result.DONE),
    "again": WriteResult(result=Result.DONE),
    "stale": WriteResult(result=Result.STALE),
    "not_verified": WriteResult(result=Result.NOT_VERIFIED),
}


def plain_bulk(
    bulk: BulkWrite,
    writes: Sequence[Write],
    *,
    now: datetime,
    store_id: str | None = None,
) -> str:
    """Return a bulk write, or a part of it, as `write.sql` takes it: for the store with this id, if one is given.

    Raises InvalidInputError for a text that cannot be stored.
    """
    plain: dict[str, Any] = {
        "store": store_id,
        "now": now,
        "durable": bulk.durable,
        "guard": None,
        "writes": [plain_write(write, _LEAVES) for write in writes],
    }
    if bulk.guard is not None:
        own = own_values(put for write in bulk.writes for put in write.puts)
        plain["guard"] = {"server": bulk.guard.server, "known": plain_condition(bulk.guard.known, own)}
    try:
        return msgspec.json.encode(plain).decode()
    except UnicodeEncodeError as error:
        raise unstorable(error) from error


def _tombstone(job: Job, keep_key_until: datetime) -> Put:
    kept = orjson.dumps(tombstone_of(job)).decode()
    return Put(TOMBSTONE, "", kept, keep_key_until, member=job.unique_key or "")


def _as_it_is(part: Any) -> object:
    return part


_LEAVES = Leaves(time=_as_it_is, put=_as_it_is, drop=_as_it_is, event=_as_it_is, tombstone=_tombstone)


def answer_from(write: Write, reply: str | dict[str, Any]) -> WriteResult:
    if isinstance(reply, str):
        return _PLAIN[reply]
    if "owners" in reply:
        return WriteResult(result=Result.EXISTS, owners={new: Owner(*owner) for new, owner in reply["owners"].items()})
    if "done" in reply:
        return WriteResult(result=Result.DONE, slot=SendSlot(*map(from_micros, reply["done"])))
    if "no_slot" in reply:
        return WriteResult(result=Result.NO_SLOT, slot=SendSlot(None, from_micros(reply["no_slot"])))
    position: int = reply["condition"]
    record = record_from_fields(*reply["record"]) if reply["record"] else None
    return WriteResult(result=Result.NOT_FREE, condition=write.conditions[position], record=record)


def record_from_fields(group: str, value: str, ends_at: str | None, member: str) -> Record:
    """Return the record in a JSON text of the columns `RECORD`."""
    return record_from(group, value, None if ends_at is None else datetime.fromisoformat(ends_at), member)


def record_from(group: str, value: str, ends_at: datetime | None, member: str) -> Record:
    """Return the record with the columns `RECORD`. The connection may have another time zone than UTC."""
    return Record(group, value, None if ends_at is None else ends_at.astimezone(UTC), member)


def job_of(row: Row) -> Job:
    """Return the job in a row of the columns `JOB`. Raises StoreVersionError if a newer version wrote it."""
    job_id, queue, state, due_at, revision, worker_id, urgency, batch, destination, key, valid, active, digest = row[
        :13
    ]
    head = (
        job_id, queue, state, to_micros(due_at), revision, worker_id, urgency, batch, destination, key,
        to_micros_or_none(valid), to_micros_or_none(active), digest,
    )  # fmt: skip
    return job_from(head, row[13], row[14])
