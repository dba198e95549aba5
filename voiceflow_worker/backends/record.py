"""The stored form of a job, and what deletion leaves of it.

orjson writes the record, without the fields that have their defaults. pydantic's TypeAdapter over the same dataclasses
is no faster, and costs 160 ms at first use. It also skips unknown fields, which would lose data of a newer version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar, cast

import orjson

from voiceflow_worker.core.ports import Event, EventKind
from voiceflow_worker.core.ports.record_set import report_unreadable
from voiceflow_worker.errors import InvalidInputError, StoreVersionError
from voiceflow_worker.model.copying import maker, writer
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Note, NoteKind, Post, ReasonKind, RedialPolicy
from voiceflow_worker.model.reports.outcome import (
    Charge,
    Outcome,
    charge_from,
    charge_record,
    outcome_from,
    outcome_record,
)
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.model.window import CallWindow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(time: datetime) -> int:
    """A time as microseconds since 1970 UTC. Raises TypeError for a time without a zone."""
    return (time - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC time that is this many microseconds after the beginning of 1970."""
    return EPOCH + timedelta(0, 0, micros)


def to_micros_or_none(time: datetime | None) -> int | None:
    """Like `to_micros`, but None stays None."""
    return None if time is None else (time - EPOCH) // _MICROSECOND


def from_micros_or_none(micros: int | None) -> datetime | None:
    """Like `from_micros`, but None stays None."""
    return None if micros is None else EPOCH + timedelta(0, 0, micros)


Row = TypeVar("Row")
Head = tuple[str, str, str, int, str, str | None, int, str | None, str, str | None, int | None, int | None, str]
"""The head of a job: id, queue, state, due_at, revision, worker_id, priority, batch_id, destination, unique_key,
valid_until, active_until and body_digest. Times are in microseconds since 1970 UTC."""

_REMEMBERED = 256
_recent: dict[int, tuple[Job, str]] = {}
"""The records of recent jobs, by the identity of the job. The job is kept too, so that no other gets its identity."""
_NAMES = (
    "source", "created_at", "not_before", "time_zone", "redial", "window", "data", "menu", "reason", "reason_kind",
    "failures", "missed_windows", "post_count", "redials", "posts", "notes", "further_numbers", "place",
    "trace",
)  # fmt: skip
"""The fields of a job that are in its record."""
_KNOWN = frozenset(_NAMES)
_NEEDED = frozenset({"source", "created_at"})


def head_of(job: Job) -> Head:
    """The head of a job: what a store indexes, and tells about a job that it does not decode."""
    return (
        job.id,
        job.queue,
        job.state.value,
        to_micros(job.due_at),
        job.revision,
        job.worker_id,
        job.priority,
        job.batch_id,
        job.destination,
        job.unique_key,
        to_micros_or_none(job.valid_until),
        to_micros_or_none(job.active_until),
        job.body_digest,
    )


def record_of(job: Job) -> str:
    """The record of a job as JSON: the fields that are in neither its head nor its body.

    Recent records are remembered, because a job that is about to be sent goes to the store and to a journal file.
    """
    found = _recent.get(id(job))
    if found is not None and found[0] is job:
        return found[1]
    record = dumps(_write(job))
    if len(_recent) >= _REMEMBERED:
        _recent.clear()
    _recent[id(job)] = job, record
    return record


def job_from(head: Head, record: str, body: str) -> Job:
    """The job with this head, record and body. Raises StoreVersionError for a record of a newer version."""
    try:
        return _job(loads(record), (*head, body))
    except Exception as error:  # whatever is wrong with it
        raise newer(f"the record of call {head[0]}", error) from error


def event_from(sequence: int, fields: Sequence[Any]) -> Event:
    """The event in an outbox entry. Raises StoreVersionError for an entry of a newer version."""
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


def newer(what: str, error: Exception) -> StoreVersionError:
    """The error for an entry of the store that this version cannot read. `what` names the entry."""
    return StoreVersionError(
        f"{what} cannot be read by this version of voiceflow-worker ({error}), because a newer version wrote it. "
        "Nothing was changed. Upgrade this installation."
    )


def unstorable(error: UnicodeEncodeError) -> InvalidInputError:
    """The error for a text that cannot be stored, such as half of a surrogate pair."""
    return InvalidInputError(f"the text {error.object[:60]!r} {storing_problem(error.object)}")


def readable(rows: Iterable[Row], read: Callable[[Row], Job]) -> Iterator[Job]:
    """The jobs in these rows. Jobs of a newer version are left out, and each is logged once."""
    for row in rows:
        try:
            job = read(row)
        except StoreVersionError as error:
            report_unreadable("a call", error)
        else:
            yield job


_write = writer(Job, _NAMES)
_policy_record = writer(RedialPolicy)
_PLAIN: Mapping[type, Callable[[Any], Any]] = {
    **{each: writer(each) for each in (Post, KeyPress, Note)},
    RedialPolicy: lambda policy: {**_policy_record(policy), "after": _waits(policy.after)},
    Outcome: outcome_record,
    Charge: charge_record,
    CallWindow: str,
    frozenset: sorted,
    timedelta: lambda time: time // _MICROSECOND,
}
"""Functions that turn values into JSON values, for types that orjson does not write."""


def _plain(value: object) -> Any:
    return value.isoformat() if isinstance(value, datetime) else _PLAIN[type(value)](value)


def _waits(after: timedelta | Mapping[SessionStatus, timedelta]) -> object:
    if isinstance(after, timedelta):
        return after
    return {status.value: wait for status, wait in after.items()}


def _several(of: Callable[[dict[str, Any]], Row]) -> Callable[[list[dict[str, Any]]], tuple[Row, ...]]:
    return lambda records: tuple([of(record) for record in records])


def _redial(record: dict[str, Any]) -> RedialPolicy:
    return _policy(dumps(record))


@lru_cache(maxsize=256)
def _policy(text: str) -> RedialPolicy:
    record = loads(text)
    on, after = frozenset(map(SessionStatus, record.pop("on"))), record.pop("after")
    if isinstance(after, dict):
        waits = cast("dict[str, int]", after)
        own = {SessionStatus(status): wait * _MICROSECOND for status, wait in waits.items()}
        return RedialPolicy(on=on, after=own, **record)
    return RedialPolicy(on=on, after=after * _MICROSECOND, **record)


def _check(record: Mapping[str, Any]) -> None:
    if not record.keys() <= _KNOWN:
        raise ValueError(f"it has unknown fields: {', '.join(sorted(record.keys() - _KNOWN))}")
    if not record.keys() >= _NEEDED:
        raise ValueError(f"it lacks fields: {', '.join(sorted(_NEEDED - record.keys()))}")


_time = datetime.fromisoformat
_post = maker(
    Post,
    {
        "began_at": _time,
        "valid_until": _time,
        "answered_at": _time,
        "verdict": VerdictKind,
        "outcome": outcome_from,
        "outcome_known_at": _time,
        "presses": _several(maker(KeyPress, {"at": _time})),
        "charge": charge_from,
        "bridged": tuple,
    },
)
_job = maker(
    Job,
    {
        "state": JobState,
        "due_at": from_micros,
        "valid_until": from_micros_or_none,
        "active_until": from_micros_or_none,
        "created_at": _time,
        "not_before": _time,
        "redial": _redial,
        "window": CallWindow.recalled,
        "reason_kind": ReasonKind,
        "posts": _several(_post),
        "notes": _several(maker(Note, {"at": _time, "kind": NoteKind})),
        "further_numbers": tuple,
    },
    given=(
        "id", "queue", "state", "due_at", "revision", "worker_id", "priority", "batch_id", "destination", "unique_key",
        "valid_until", "active_until", "body_digest", "body",
    ),
    check=_check,
)  # fmt: skip


def dumps(record: Mapping[str, Any]) -> str:
    """Write a record as JSON that `loads` can read."""
    try:
        return orjson.dumps(record, default=_plain, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()
    except TypeError:
        # An answer or a summary may contain half a surrogate pair, or an integer beyond 64 bits. orjson does not write
        # these, and would misread them. Evidence is never dropped, so `json` writes the record, and a space marks it.
        return " " + json.dumps(record, default=_plain)


def loads(record: str | bytes) -> dict[str, Any]:
    """Read a record that `dumps` wrote. Raises ValueError for other texts."""
    fields: dict[str, Any] = json.loads(record) if record[:1].isspace() else orjson.loads(record)
    return fields


Tombstone = tuple[str, str | None, str, str, str, int, int, int | None, int | None]
"""The record of a deleted job that had a unique key: queue, key, id, body digest, state, and the times due_at,
created_at, not_before and valid_until in microseconds. It has nothing about the person who was called."""


def tombstone_of(job: Job) -> Tombstone:
    """The tombstone of a job that is being deleted."""
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
    )


def remembered(tombstone: Sequence[Any]) -> Job:
    """The deleted job, from its tombstone. Raises StoreVersionError if a newer version wrote it."""
    try:
        queue, unique_key, job_id, body_digest, state, due_at, created_at, not_before, valid_until = tombstone
        known = JobState(state)
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
    )
