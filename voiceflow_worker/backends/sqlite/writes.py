"""The writes of `enqueue`, `commit` and `delete`, as operations of a group commit."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import datetime

from voiceflow_worker.backends.admission import tombstone_of
from voiceflow_worker.backends.matching import changes_rare_fields
from voiceflow_worker.backends.record import record_of, to_micros, to_micros_or_none
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.reading import tally_record
from voiceflow_worker.core.ports import Event, Move
from voiceflow_worker.model.jobs.job import Job, JobState

_PER_STEP = 64
"""The number of rows that are written in one step, before other tasks may run: 1 to 2 ms."""


EncodedMove = tuple[Job, Row, Row | None, Sequence[Row]]
"""A move, encoded: the new job, its usual fields, its rare fields if they change, and its events."""


def encoded_move(move: Move) -> EncodedMove:
    """Encode a move for `commit`."""
    old, new = move.old, move.new
    fields = (
        new.state.value,
        to_micros(new.due_at),
        new.revision,
        new.worker_id,
        to_micros_or_none(new.active_until),
        record_of(new),
        tally_record(new),
        old.id,
        old.revision,
    )
    rare = (new.priority, new.batch_id, new.destination, to_micros_or_none(new.valid_until), new.id)
    events = [event_row(new.queue, event) for event in move.events]
    return new, fields, rare if changes_rare_fields(move) else None, events


def event_row(queue: str, event: Event) -> Row:
    """The row of an event, without its sequence."""
    return (queue, event.job_id, event.kind.value, to_micros(event.at), event.state.value, event.revision, event.post)


def commit(changes: Sequence[EncodedMove], transaction: Transaction) -> Generator[None, None, Sequence[bool]]:
    """Make moves. A move is made only if the job still has the revision from which the move starts."""
    db, jobs, insert_event = transaction.db, statements("jobs"), statements("outbox")["insert_event"]
    made: list[bool] = []
    for start in range(0, len(changes), _PER_STEP):
        some = changes[start : start + _PER_STEP]
        moved = set(db.rows_of_each(jobs["move_job"], [fields for _, fields, _, _ in some]))
        told: list[Row] = []
        for new, _, rare_fields, events in some:
            if (new.id, new.revision) in moved:
                if rare_fields is not None:
                    db.run(jobs["change_rare_fields"], rare_fields)
                told += events
                if new.state is JobState.QUEUED:
                    transaction.changed.add(new.queue)
                made.append(True)
            else:
                # If the job has the new revision, the move was committed before, and its answer was lost.
                made.append(_has_revision(db, new))
        db.run_each(insert_event, told)
        yield
    return made


def _has_revision(db: Connection, job: Job) -> bool:
    return db.rows(statements("jobs")["revision_of"], (job.id,)) == [(job.revision,)]


def delete(
    jobs: Sequence[Job], transaction: Transaction, *, keep_keys_until: datetime
) -> Generator[None, None, Sequence[bool]]:
    """Delete jobs, and store tombstones for their unique keys. A job that has changed in the store is not deleted.

    Returns whether each job was deleted.
    """
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
