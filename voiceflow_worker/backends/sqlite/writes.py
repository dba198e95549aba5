"""What `enqueue`, `commit` and `delete` write, as operations of a group commit."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.backends.admission import admission, remembered, remembered_state
from voiceflow_worker.backends.instant import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from voiceflow_worker.backends.record import Head, head_of, record_of
from voiceflow_worker.backends.sqlite.file.connection import Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.reading import job_of
from voiceflow_worker.core.ports import Enqueued, Event, Move
from voiceflow_worker.model.jobs.job import Job, JobState

_PER_STEP = 64
"""Rows written before others may have their turn: 1 to 2 ms."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A job to be stored, taken apart."""

    job: Job
    head: Head
    record: str

    @classmethod
    def of(cls, job: Job) -> Entry:
        """Take a job apart."""
        return cls(job, head_of(job), record_of(job))


def enqueue(
    entries: Sequence[Entry], *, now: datetime, transaction: Transaction
) -> Generator[None, None, Sequence[Enqueued]]:
    """Store those that are new; judged first, so that a `KeyConflictError` comes before anything is written."""
    db, sql = transaction.db, statements("jobs")
    at = to_micros(now)

    def held(job_id: str) -> Job | None:
        rows = db.rows(sql["job_by_id"], (job_id,))
        return job_of(rows[0]) if rows else None

    def owner(queue: str, key: str) -> Job | None:
        rows = db.rows(sql["job_by_key"], (queue, key))
        if rows:
            return job_of(rows[0])
        rows = db.rows(sql["tombstone_by_key"], (queue, key, at))
        return remembered_job(rows[0]) if rows else None

    judged = yield from admission([entry.job for entry in entries], held=held, owner=owner)
    last: int = db.rows(sql["last_number"])[0][0]
    for start in range(0, len(judged.fresh), _PER_STEP):
        part = [entries[index] for index in judged.fresh[start : start + _PER_STEP]]
        numbered = list(enumerate(part, last + 1 + start))
        db.run_each(sql["insert_job"], [(number, *entry.head, entry.record) for number, entry in numbered])
        db.run_each(sql["insert_body"], [(number, entry.job.body) for number, entry in numbered])
        transaction.changed.update(entry.job.queue for entry in part)
        yield
    return judged.answers


@dataclass(frozen=True, slots=True)
class Change:
    """A move to be made, taken apart."""

    move: Move
    fields: Row
    rare_fields: Row | None
    events: Sequence[Row]

    @classmethod
    def of(cls, move: Move) -> Change:
        """Take a move apart."""
        old, new = move.old, move.new
        fields = (
            new.state.value,
            to_micros(new.due_at),
            new.revision,
            new.worker_id,
            to_micros_or_none(new.active_until),
            record_of(new),
            old.id,
            old.revision,
        )
        return cls(move, fields, _rare_fields(old, new), [_event_row(new.queue, event) for event in move.events])


def _rare_fields(old: Job, new: Job) -> Row | None:
    if (old.priority, old.batch_id, old.destination, old.valid_until) == (
        new.priority,
        new.batch_id,
        new.destination,
        new.valid_until,
    ):
        return None
    return (new.priority, new.batch_id, new.destination, to_micros_or_none(new.valid_until), new.id)


def _event_row(queue: str, event: Event) -> Row:
    return (queue, event.job_id, event.kind.value, to_micros(event.at), event.state.value, event.revision, event.post)


def commit(changes: Sequence[Change], *, transaction: Transaction) -> Generator[None, None, Sequence[bool]]:
    """Make moves, each only from the revision that it was made from."""
    db, jobs, insert_event = transaction.db, statements("jobs"), statements("outbox")["insert_event"]
    made: list[bool] = []
    for index, change in enumerate(changes):
        new = change.move.new
        if db.rows(jobs["move_job"], change.fields):
            if change.rare_fields is not None:
                db.run(jobs["change_rare_fields"], change.rare_fields)
            if change.events:
                db.run_each(insert_event, change.events)
            if new.state is JobState.QUEUED:
                transaction.changed.add(new.queue)
            made.append(True)
        else:
            # Its own revision already there: this move was committed before, and only its answer was lost.
            made.append(db.rows(jobs["revision_of"], (new.id,)) == [(new.revision,)])
        if index % _PER_STEP == _PER_STEP - 1:
            yield
    return made


def delete(
    jobs: Sequence[Job], *, keep_keys_until: datetime, transaction: Transaction
) -> Generator[None, None, Sequence[bool]]:
    """Delete jobs, each only while it has the revision given, and bury their keys."""
    db, sql = transaction.db, statements("jobs")
    until = to_micros(keep_keys_until)
    deleted: list[bool] = []
    for index, job in enumerate(jobs):
        rows = db.rows(sql["delete_job"], (job.id, job.revision))
        if rows:
            db.run(sql["delete_body"], rows[0])
            if job.unique_key is not None:
                db.run(sql["bury"], _tombstone_row(job, until))
        deleted.append(bool(rows))
        if index % _PER_STEP == _PER_STEP - 1:
            yield
    return deleted


def _tombstone_row(job: Job, until: int) -> Row:
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
        until,
    )


def remembered_job(row: Row) -> Job:
    """The job that a tombstone remembers: id, state and times."""
    job_id, queue, unique_key, body_digest, state, due_at, created_at, not_before, valid_until = row
    return remembered(
        job_id,
        queue=queue,
        unique_key=unique_key,
        body_digest=body_digest,
        state=remembered_state(job_id, state),
        due_at=from_micros(due_at),
        created_at=from_micros(created_at),
        not_before=from_micros_or_none(not_before),
        valid_until=from_micros_or_none(valid_until),
    )
