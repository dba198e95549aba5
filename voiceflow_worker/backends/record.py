"""The stored form of a job: a head of indexed columns, a JSON record of everything else, and the unchanged body.

The record is made by hand over orjson: with one POST and its outcome 3.4 µs to write and 11 µs to read. pydantic's
TypeAdapter over the same dataclasses took 6 and 11. But it skips unknown fields, which would lose data of a newer
version, and costs 160 ms at first use. Defaults are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import orjson

from voiceflow_worker.backends.instant import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from voiceflow_worker.core.ports.record_set import report_unreadable
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.hours.window import CallWindow
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Note, NoteKind, Post, RedialPolicy
from voiceflow_worker.model.records.outcome_record import outcome_from, outcome_record
from voiceflow_worker.model.reports.charge import charge_from, charge_record
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

Row = TypeVar("Row")
Head = tuple[str, str, str, int, str, str | None, int, str | None, str, str | None, int | None, int | None]
"""id, queue, state, due_at, revision, worker_id, priority, batch_id, destination, unique_key, valid_until and
active_until; times in microseconds since 1970 UTC."""

_RECORD_FIELDS = frozenset(
    {
        "source", "created_at", "body_digest", "not_before", "time_zone", "reason", "failures", "missed_windows",
        "post_count", "redials", "redial", "window", "data", "menu", "posts", "notes",
    }
)  # fmt: skip
_MICROSECOND = timedelta(microseconds=1)


def head_of(job: Job) -> Head:
    """The columns that a store indexes."""
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
    )


def record_of(job: Job) -> str:
    """The fields of a job that are neither in its head nor its body, as JSON."""
    record: dict[str, Any] = {"source": job.source, "created_at": job.created_at, "body_digest": job.body_digest}
    _record_order(job, record)
    _record_life(job, record)
    return _dumps(record)


def _record_order(job: Job, record: dict[str, Any]) -> None:
    """The fields that were given when the job was enqueued."""
    if job.not_before is not None:
        record["not_before"] = job.not_before
    if job.time_zone is not None:
        record["time_zone"] = job.time_zone
    if job.redial is not None:
        record["redial"] = _redial_record(job.redial)
    if job.window is not None:
        record["window"] = str(job.window)
    if job.data is not None:
        record["data"] = job.data
    if job.menu is not None:
        record["menu"] = job.menu


def _record_life(job: Job, record: dict[str, Any]) -> None:
    """The fields that moves have changed since."""
    if job.reason is not None:
        record["reason"] = job.reason
    if job.failures:
        record["failures"] = job.failures
    if job.missed_windows:
        record["missed_windows"] = job.missed_windows
    if job.post_count:
        record["post_count"] = job.post_count
    if job.redials:
        record["redials"] = job.redials
    if job.posts:
        record["posts"] = [_post_record(post) for post in job.posts]
    if job.notes:
        record["notes"] = [{"at": note.at, "kind": note.kind.value, "text": note.text} for note in job.notes]


def job_from(head: Head, record: str, body: str) -> Job:
    """The job of a head, a record and a body. Raises `StoreVersionError` for a record of a newer version."""
    try:
        fields = _loads(record)
        if not fields.keys() <= _RECORD_FIELDS:
            raise ValueError(f"unknown {', '.join(sorted(fields.keys() - _RECORD_FIELDS))}")
        return _job(head, fields, body)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreVersionError(
            f"job {head[0]} has a record that this version of voiceflow-worker cannot read ({error}): a newer one "
            "wrote it. Upgrade this installation; nothing was changed."
        ) from error


def readable(rows: Iterable[Row], read: Callable[[Row], Job]) -> list[Job]:
    """The jobs of these rows. Those of a newer version are left out, and each is logged once."""
    jobs: list[Job] = []
    for row in rows:
        try:
            jobs.append(read(row))
        except StoreVersionError as error:
            report_unreadable("a job", error)
    return jobs


def _job(head: Head, fields: Mapping[str, Any], body: str) -> Job:
    (
        job_id, queue, state, due_at, revision, worker_id, priority, batch_id, destination, unique_key, valid_until,
        active_until,
    ) = head  # fmt: skip
    get = fields.get
    redial = get("redial")
    window = get("window")
    posts = get("posts")
    notes = get("notes")
    return Job(
        id=job_id,
        queue=queue,
        state=JobState(state),
        due_at=from_micros(due_at),
        revision=revision,
        worker_id=worker_id,
        priority=priority,
        batch_id=batch_id,
        destination=destination,
        unique_key=unique_key,
        valid_until=from_micros_or_none(valid_until),
        active_until=from_micros_or_none(active_until),
        body=body,
        body_digest=fields["body_digest"],
        source=fields["source"],
        created_at=datetime.fromisoformat(fields["created_at"]),
        not_before=_time(get("not_before")),
        time_zone=get("time_zone"),
        reason=get("reason"),
        failures=get("failures", 0),
        missed_windows=get("missed_windows", 0),
        post_count=get("post_count", 0),
        redials=get("redials", 0),
        redial=_redial(redial) if redial is not None else None,
        window=CallWindow.recalled(window) if window is not None else None,
        data=get("data"),
        menu=get("menu"),
        posts=tuple([_post(post) for post in posts]) if posts else (),
        notes=tuple([_note(note) for note in notes]) if notes else (),
    )


def _post_record(post: Post) -> dict[str, Any]:
    record: dict[str, Any] = {
        "number": post.number,
        "client_request_id": post.client_request_id,
        "began_at": post.began_at,
        "valid_until": post.valid_until,
    }
    if post.redial:
        record["redial"] = post.redial
    if post.answered_at is not None:
        record["answered_at"] = post.answered_at
    if post.verdict is not None:
        record["verdict"] = post.verdict.value
    if post.code is not None:
        record["code"] = post.code
    if post.message is not None:
        record["message"] = post.message
    if post.session_id is not None:
        record["session_id"] = post.session_id
    if post.outcome is not None:
        record["outcome"] = outcome_record(post.outcome)
    if post.presses:
        record["presses"] = [_press_record(press) for press in post.presses]
    if post.charge is not None:
        record["charge"] = charge_record(post.charge)
    return record


def _post(record: dict[str, Any]) -> Post:
    record["began_at"] = datetime.fromisoformat(record["began_at"])
    record["valid_until"] = datetime.fromisoformat(record["valid_until"])
    if "answered_at" in record:
        record["answered_at"] = datetime.fromisoformat(record["answered_at"])
    if "verdict" in record:
        record["verdict"] = VerdictKind(record["verdict"])
    if "outcome" in record:
        record["outcome"] = outcome_from(record["outcome"])
    if "presses" in record:
        record["presses"] = tuple([_press(press) for press in record["presses"]])
    if "charge" in record:
        record["charge"] = charge_from(record["charge"])
    return Post(**record)  # an unknown field is a TypeError, and so a StoreVersionError


def _press_record(press: KeyPress) -> dict[str, Any]:
    record: dict[str, Any] = {"at": press.at, "menu": press.menu, "digits": press.digits}
    if press.event_id is not None:
        record["event_id"] = press.event_id
    return record


def _press(record: dict[str, Any]) -> KeyPress:
    record["at"] = datetime.fromisoformat(record["at"])
    return KeyPress(**record)


def _redial_record(redial: RedialPolicy) -> dict[str, Any]:
    return {
        "on": sorted(status.value for status in redial.on),
        "limit": redial.limit,
        "after": redial.after // _MICROSECOND,
        "factor": redial.factor,
        "jitter": redial.jitter,
    }


def _redial(record: dict[str, Any]) -> RedialPolicy:
    on = frozenset(SessionStatus(status) for status in record.pop("on"))
    return RedialPolicy(on=on, after=timedelta(microseconds=record.pop("after")), **record)


def _note(record: dict[str, Any]) -> Note:
    return Note(at=datetime.fromisoformat(record["at"]), kind=NoteKind(record["kind"]), text=record["text"])


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _dumps(record: dict[str, Any]) -> str:
    try:
        return orjson.dumps(record).decode()
    except TypeError:
        # An answer or a summary may hold half a surrogate pair or an integer beyond 64 bits. orjson does not write
        # them and would misread them. Evidence is never dropped, so `json` keeps them; a leading space marks this form.
        return " " + json.dumps(record, default=datetime.isoformat)


def _loads(record: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(record) if record.startswith(" ") else orjson.loads(record)
    return fields
