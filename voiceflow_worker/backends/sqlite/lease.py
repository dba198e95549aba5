"""`lease` of a SQLite store. Due jobs are found by reading indexes only.

A lease reads past the due jobs of closed batches: 100,000 of them take some 15 ms. Jobs that are not due are not read.
"""

from __future__ import annotations

from collections.abc import Generator
from uuid import uuid4

from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.reading import JOB_BY_NUMBER, standing
from voiceflow_worker.core.ports.store import GATES, LIMITS, gate_key, is_closed, limits_from
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.totals import STATE

_LEAST, _MOST = -(2**63), 2**63 - 1

# An index seek each, so jobs of other priorities cost nothing. The first bindings are the queue and a batch (or none).
_NEXT_PRIORITY = """
SELECT max(priority) FROM jobs INDEXED BY jobs_to_lease WHERE queue = ?1 AND ?2 IS NULL AND state = 'queued'
    AND priority <= ?3
"""
_NEXT_PRIORITY_OF_BATCH = """
SELECT max(priority) FROM jobs INDEXED BY jobs_of_batch_to_lease
WHERE queue = ?1 AND batch_id = ?2 AND state = 'queued' AND priority <= ?3
"""
# The names of closed batches are cut out of keys as bytes, because substr ends a text at its first NUL.
_DUE = """
SELECT number FROM jobs INDEXED BY jobs_to_lease
WHERE queue = ?1 AND ?2 IS NULL AND state = 'queued' AND priority = ?3 AND due_at <= ?4
    AND (valid_until IS NULL OR valid_until > ?4)
    AND (batch_id IS NULL OR batch_id NOT IN (
        SELECT CAST(substr(CAST(key AS BLOB), length(?1) + 2) AS TEXT) FROM records
        WHERE namespace = 'gate' AND key >= ?1 || ' ' AND key < ?1 || '!' AND (ends_at IS NULL OR ends_at > ?4)
            AND substr(value, 1, 5) <> 'open '
    ))
ORDER BY due_at, id LIMIT ?5
"""
_DUE_OF_BATCH = """
SELECT number FROM jobs INDEXED BY jobs_of_batch_to_lease
WHERE queue = ?1 AND batch_id = ?2 AND state = 'queued' AND priority = ?3 AND due_at <= ?4
    AND (valid_until IS NULL OR valid_until > ?4)
ORDER BY due_at, id LIMIT ?5
"""
_LEASE = "UPDATE jobs SET state = 'leased', worker_id = ?, due_at = ?, revision = ? WHERE number = ?"
_OPEN_CALLS = """
SELECT count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_by_state WHERE queue = ?1 AND state = 'leased'
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_active WHERE queue = ?1 AND active_until > ?2 AND state <> 'leased'
    LIMIT ?3
)
"""


def lease(
    queue: str, batch: str | None, transaction: Transaction, *, worker_id: str, limit: int, until: int, at: int
) -> Generator[None, None, list[Row]]:
    """Lease at most `limit` due jobs to a worker, and return their rows."""
    yield from ()
    db = transaction.db
    gates = [None] if batch is None else [None, batch]
    if any(is_closed(standing(db, GATES, gate_key(queue, each), at)) for each in gates):
        return []
    numbers = _due(db, queue, batch, at=at, limit=min(limit, _room(db, queue, at=at)))
    token = uuid4().hex
    db.run_each(_LEASE, [(worker_id, until, f"{token}.{place}", number) for place, number in enumerate(numbers)])
    rows = db.rows_of_each(JOB_BY_NUMBER, [(number,) for number in numbers])
    for row in rows:
        transaction.live[queue, row[7], STATE + JobState.QUEUED] -= 1
        transaction.live[queue, row[7], STATE + JobState.LEASED] += 1
    return rows


def _due(db: Connection, queue: str, batch: str | None, *, at: int, limit: int) -> list[int]:
    """The numbers of due jobs: those of the highest priority first, then the earliest due, then by id."""
    next_priority, due = (_NEXT_PRIORITY, _DUE) if batch is None else (_NEXT_PRIORITY_OF_BATCH, _DUE_OF_BATCH)
    numbers: list[int] = []
    priority: int | None = _MOST
    while len(numbers) < limit:
        priority = db.rows(next_priority, (queue, batch, priority))[0][0]
        if priority is None:
            break
        numbers += [row[0] for row in db.rows(due, (queue, batch, priority, at, limit - len(numbers)))]
        if priority == _LEAST:
            break
        priority -= 1
    return numbers


def _room(db: Connection, queue: str, *, at: int) -> int:
    """How many more calls of the queue may be open."""
    most = limits_from(standing(db, LIMITS, queue, at)).max_active
    if most is None:
        return _MOST
    open_now: int = db.rows(_OPEN_CALLS, (queue, at, most))[0][0]
    return most - open_now
