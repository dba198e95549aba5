"""The writes of `enqueue`, `commit` and `delete`, as operations of a group commit."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.backends.admission import admission, remembered, tombstone_of
from voiceflow_worker.backends.instant import to_micros, to_micros_or_none
from voiceflow_worker.backends.record import Head, head_of, record_of
from voiceflow_worker.backends.sqlite.file.connection import Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.reading import job_of
from voiceflow_worker.core.ports import Enqueued, Event, Move
from voiceflow_worker.model.jobs.job import Job, JobState

_PER_STEP = 64
"""Rows written before other tasks may run: 1 to 2 ms."""


@dataclass(frozen=True, slots=True)
class EncodedJob:
    """A new job as the columns of its row."""

    job: Job
    head: Head
    record: str

    @classmethod
    def of(cls, job: Job) -> EncodedJob:
        """Encode a job."""
        return cls(job, head_of(job), record_of(job))


def enqueue(
    entries: Sequence[EncodedJob], *, now: datetime, transaction: Transaction
) -> Generator[None, None, Sequence[Enqueued]]:
    """Store the new jobs. Keys are checked first: a `KeyConflictError` comes before anything is written."""
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
        return remembered(rows[0]) if rows else None

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
class EncodedMove:
    """A move as the values of its statements."""

    move: Move
    fields: Row
    rare_fields: Row | None
    events: Sequence[Row]

    @classmethod
    def of(cls, move: Move) -> EncodedMove:
        """Encode a move."""
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


def commit(changes: Sequence[EncodedMove], *, transaction: Transaction) -> Generator[None, None, Sequence[bool]]:
    """Make moves, each fenced by the revision that it was made from."""
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
            # The revision of this move is there already: it was committed before, and its answer was lost.
            made.append(db.rows(jobs["revision_of"], (new.id,)) == [(new.revision,)])
        if index % _PER_STEP == _PER_STEP - 1:
            yield
    return made


def delete(
    jobs: Sequence[Job], *, keep_keys_until: datetime, transaction: Transaction
) -> Generator[None, None, Sequence[bool]]:
    """Delete jobs that still have the given revision, and keep tombstones of their keys."""
    db, sql = transaction.db, statements("jobs")
    until = to_micros(keep_keys_until)
    deleted: list[bool] = []
    for index, job in enumerate(jobs):
        rows = db.rows(sql["delete_job"], (job.id, job.revision))
        if rows:
            db.run(sql["delete_body"], rows[0])
            if job.unique_key is not None:
                db.run(sql["bury"], (*tombstone_of(job), until))
        deleted.append(bool(rows))
        if index % _PER_STEP == _PER_STEP - 1:
            yield
    return deleted
