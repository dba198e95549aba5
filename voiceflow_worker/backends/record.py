"""The stored form of a job, and what deletion leaves of it.

A job is its head, which a store indexes, its body, and its record: the other fields as JSON, which nobody but this
module reads. msgspec reads and writes it, by the types of the fields, without those that have their defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from voiceflow_worker.core.base.record_set import Codec, report_unreadable
from voiceflow_worker.core.ports import Event, EventKind
from voiceflow_worker.errors import InvalidInputError, StoreVersionError, UnreadableRecordError
from voiceflow_worker.model.jobs.job import Edits, Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.model.window import CallWindow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(time: datetime) -> int:
    """Return a time as microseconds since 1970 UTC. Raises TypeError for a time without a zone."""
    return (time - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the UTC time that is this many microseconds after the beginning of 1970."""
    return EPOCH + timedelta(0, 0, micros)


def to_micros_or_none(time: datetime | None) -> int | None:
    return None if time is None else (time - EPOCH) // _MICROSECOND


def from_micros_or_none(micros: int | None) -> datetime | None:
    return None if micros is None else EPOCH + timedelta(0, 0, micros)


Row = TypeVar("Row")
Head = tuple[str, str, str, int, str, str | None, int, str | None, str, str | None, int | None, int | None, str]
"""The head of a job: id, queue, state, due_at, revision, worker_id, urgency, batch_id, destination, unique_key,
valid_until, active_until and body_digest. Times are in microseconds since 1970 UTC."""

_STATES = {state.value: state for state in JobState}
_KINDS = frozenset(ReasonKind)
_IN_HEAD = frozenset(
    {
        "id", "queue", "state", "due_at", "destination", "body", "body_digest", "revision", "worker_id", "priority",
        "batch_id", "unique_key", "valid_until", "active_until",
    }
)  # fmt: skip
"""The fields of a job that are not in its record."""
_IN_RECORD = [field for field in structs.fields(Job) if field.name not in _IN_HEAD]
_WRITTEN_AS = {"window": str | None}
"""The types of fields that a record has in another form: a window is its text, and equal texts give the same window."""
_Record: Any = msgspec.defstruct(
    "JobRecord",
    [(field.name, _WRITTEN_AS.get(field.name, field.type), field.default) for field in _IN_RECORD],
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
)
"""The fields of a job that are in its record, in their order."""
_of_record = attrgetter(*(field.name for field in _IN_RECORD))
_text_of = lru_cache(maxsize=1024)(CallWindow.__str__)
_codec: Codec[Any] = Codec(_Record)


def head_of(job: Job) -> Head:
    """Return the head of a job: what a store indexes and reads without decoding the job."""
    return (
        job.id,
        job.queue,
        job.state.value,
        to_micros(job.due_at),
        job.revision,
        job.worker_id,
        job.urgency,
        job.batch_id,
        job.destination,
        job.unique_key,
        to_micros_or_none(job.valid_until),
        to_micros_or_none(job.active_until),
        job.body_digest,
    )


def record_of(job: Job) -> str:
    """Return the record of a job as JSON: the fields that are in neither its head nor its body."""
    *values, window = _of_record(job)
    return _codec.text(_Record(*values, None if window is None else _text_of(window)))


def job_from(head: Head, record: str, body: str) -> Job:
    """Return the job with this head, record and body. Raises StoreVersionError for a record of a newer version."""
    try:
        source, created_at, *values = structs.astuple(_codec.value(record))
        if (window := values[-1]) is not None:
            values[-1] = CallWindow.recalled(window)
        return _job_of(head, body, source, created_at, *values)
    except Exception as error:  # whatever is wrong with it
        unreadable = newer(f"the record of call {head[0]}", error)
        with suppress(ValueError, LookupError, TypeError):
            unreadable.head = _job_of(head, body, "", from_micros(head[3]))
        end = f"`voiceflow calls cancel {head[0]}` ends the call"
        unreadable.args = (f"{unreadable} To give it up, {end}." if unreadable.head is not None else str(unreadable),)
        raise unreadable from error


def _job_of(head: Head, body: str, source: str, created_at: datetime, *values: Any) -> Job:
    """Return the job with these values of its record. Without them, its window, POSTs and notes are unknown."""
    job_id, queue, state, due, revision, worker, urgency, batch, destination, key, valid, active, digest = head
    return Job(
        job_id, queue, _STATES[state], from_micros(due), destination, body, digest, source, created_at, revision,
        worker, urgency >> 1, batch, key, from_micros_or_none(valid), from_micros_or_none(active), *values,
    )  # fmt: skip


def event_from(sequence: int, fields: Sequence[Any]) -> Event:
    """Return the event in an outbox entry. Raises StoreVersionError for an entry of a newer version."""
    try:
        job_id, kind, at, state, revision, post = fields
        return Event(
            job_id=job_id,
            kind=EventKind(kind),
            at=from_micros(at),
            state=JobState(state),
            revision=revision,
            post=post,
            sequence=sequence,
        )
    except ValueError as error:
        raise newer(f"event {sequence}", error) from error


def newer(what: str, error: Exception) -> UnreadableRecordError:
    """Return the error for an entry of the store that this version cannot read. `what` names the entry."""
    return UnreadableRecordError(
        f"{what} cannot be read by this version of voiceflow-worker ({error}): a newer version wrote it, or it is "
        "damaged. Nothing was changed. Upgrade this installation; if no newer version uses the store, restore it from "
        "a backup."
    )


def unstorable(error: UnicodeEncodeError) -> InvalidInputError:
    """Return the error for a text that cannot be stored, such as half of a surrogate pair."""
    return InvalidInputError(f"the text {error.object[:60]!r} {storing_problem(error.object)}")


def readable(rows: Iterable[Row], read: Callable[[Row], Job]) -> Iterator[Job]:
    """Return the jobs in these rows. Jobs of a newer version are left out, and each is logged once."""
    for row in rows:
        try:
            job = read(row)
        except StoreVersionError as error:
            report_unreadable("a call", error)
        else:
            yield job


def totals_from(rows: Iterable[tuple[str, str, int]], names: Iterable[str]) -> dict[str, Totals]:
    """Return the counters with these names, from rows of a name, a field and its amount."""
    live = {name: dict[str, int]() for name in names}
    for name, field, amount in rows:
        live[name] |= {field: amount} if amount else {}
    return {name: Totals(live=live[name]) for name in live}


TOMBSTONE = "tombstone"
"""Namespace of tombstones in stores that keep them as records: in one group, by unique key."""


Tombstone = tuple[Any, ...]
"""The record of a deleted job that had a unique key: queue, key, id, body digest, state, the times due_at, created_at,
not_before and valid_until in microseconds; and of one that was cancelled or changed, the kind of its reason, and the
digest of what it said last. It has nothing about the person who was called."""


def tombstone_of(job: Job) -> Tombstone:
    return (
        job.queue,
        job.unique_key,
        job.id,
        job.body_digest,
        job.state.value,
        to_micros(job.due_at),
        to_micros(job.created_at),
        to_micros_or_none(job.not_before),
        to_micros_or_none(job.valid_until),
        *(() if job.reason_kind is None and job.edits is None else (job.reason_kind, job.edits and job.edits.digest)),
    )


def tombstone_job(tombstone: Sequence[Any]) -> Job:
    """Return the deleted job, from its tombstone. Raises StoreVersionError if a newer version wrote it."""
    try:
        queue, unique_key, job_id, body_digest, state, due_at, created_at, not_before, valid_until, *more = tombstone
        known = JobState(state)
        kind, digest = more or (None, None)
    except ValueError as error:
        raise newer(f"what is kept of the deleted call {tombstone[2]}", error) from error
    return Job(
        id=job_id,
        queue=queue,
        state=known,
        due_at=from_micros(due_at),
        destination="",
        unique_key=unique_key,
        valid_until=from_micros_or_none(valid_until),
        body="",
        body_digest=body_digest,
        source="",
        created_at=from_micros(created_at),
        not_before=from_micros_or_none(not_before),
        reason_kind=ReasonKind(kind) if kind in _KINDS else None,
        edits=Edits(digest=digest, made="") if digest else None,
    )
