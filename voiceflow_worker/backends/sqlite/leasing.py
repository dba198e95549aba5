"""Leasing: which jobs are due and may go, found through indexes alone, and given to a worker."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice
from uuid import uuid4

from voiceflow_worker.backends.instant import to_micros
from voiceflow_worker.backends.sqlite.connection import Connection, Row
from voiceflow_worker.backends.sqlite.gates import standing_gate
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.statements import statements
from voiceflow_worker.model.gate import GateScope

_WALK = 1000
"""How many jobs of closed batches are walked past, 1 µs each, before the batches are asked one by one."""
_ABOVE_ALL = 2**63 - 1
_ABOVE_EVERY_PRIORITY = 2.0**63
"""SQLite compares an integer with a real number exactly: the largest integer is below this."""

Candidate = tuple[int, int, str, int, str | None]
"""-priority, due_at, id, row number, batch: sorts in the order of leasing."""


def lease(
    queue: str,
    *,
    worker_id: str,
    limit: int,
    lease_for: timedelta,
    now: datetime,
    batch_id: str | None,
    transaction: Transaction,
) -> Generator[None, None, list[Row]]:
    """Give at most `limit` due jobs to a worker, and answer with their rows. Only heads are written."""
    yield from ()
    db = transaction.db
    search = _Search(db, queue, now)
    if search.is_closed(GateScope.QUEUE, queue):
        return []
    room = min(limit, _room(db, queue, at=to_micros(now)))
    if room <= 0:
        return []
    if batch_id is not None:
        found = [] if search.is_closed(GateScope.BATCH, batch_id) else list(islice(search.of_batch(batch_id), room))
    else:
        found = search.of_queue(room)
    until, token = to_micros(now + lease_for), uuid4().hex
    leases = [(worker_id, until, f"{token}.{place}", candidate[3]) for place, candidate in enumerate(found)]
    db.run_each(statements("leasing")["lease_job"], leases)
    return db.rows_of_each(statements("jobs")["job_by_number"], [(candidate[3],) for candidate in found])


def _room(db: Connection, queue: str, *, at: int) -> int:
    """How many more calls may be open."""
    limits = db.rows(statements("control")["limits"], (queue,))
    if not limits or limits[0][2] is None:
        return _ABOVE_ALL
    most: int = limits[0][2]
    open_now: int = db.rows(statements("leasing")["open_calls"], (queue, at, most))[0][0]
    return most - open_now


@dataclass(slots=True)
class _Search:
    db: Connection
    queue: str
    now: datetime
    closed: dict[tuple[GateScope, str], bool] = field(default_factory=dict[tuple[GateScope, str], bool])

    def is_closed(self, scope: GateScope, name: str) -> bool:
        if (scope, name) not in self.closed:
            gate = standing_gate(self.db, self.queue, scope, name)
            self.closed[scope, name] = gate is not None and gate.is_closed(at=self.now)
        return self.closed[scope, name]

    def of_queue(self, room: int) -> list[Candidate]:
        """The first `room` that no batch gate keeps.

        Nearly always these are the first due ones. A large closed batch in front of them must not be read at each
        lease, so after some steps the batches that have queued jobs are asked one by one: a seek for each.
        """
        found: list[Candidate] = []
        walked = 0
        for candidate in self._due((self.queue,), highest="highest_priority", due="due_jobs"):
            if candidate[4] is None or not self.is_closed(GateScope.BATCH, candidate[4]):
                found.append(candidate)
                if len(found) == room:
                    return found
            else:
                walked += 1
                if walked > _WALK:
                    return self._over_batches(room)
        return found

    def _over_batches(self, room: int) -> list[Candidate]:
        batches = [row[0] for row in self.db.each(statements("leasing")["queued_batches"], (self.queue,))]
        ready = [
            list(islice(self.of_batch(name), room)) for name in batches if not self.is_closed(GateScope.BATCH, name)
        ]
        without_batch = list(islice(self.of_batch(None), room))
        return list(islice(merge(without_batch, *ready), room))

    def of_batch(self, batch_id: str | None) -> Iterator[Candidate]:
        """Due jobs of one batch, or of those without one, in the order of leasing."""
        return self._due((self.queue, batch_id), highest="highest_priority_of_batch", due="due_jobs_of_batch")

    def _due(self, place: Row, *, highest: str, due: str) -> Iterator[Candidate]:
        sql = statements("leasing")
        at = to_micros(self.now)
        below: float = _ABOVE_EVERY_PRIORITY
        while (priority := self.db.rows(sql[highest], (*place, below))[0][0]) is not None:
            for number, due_at, job_id, batch in self.db.each(sql[due], (*place, priority, at, at)):
                yield -priority, due_at, job_id, number, batch
            below = priority
