"""Leasing in SQLite. Due jobs are found lane by lane, by reading indexes only."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

from voiceflow_worker.backends.record import from_micros, to_micros, to_micros_or_none
from voiceflow_worker.backends.sqlite.control import standing_gate
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.model.jobs.gate import GateScope, GateState

_CHUNK = 16
"""The most jobs that are read from one lane at a time, if several lanes of a priority have due jobs."""
_LOOK_AGAIN = 60_000_000
"""Microseconds until a lane is read again if all its due jobs have expired."""
_SKEW = 1_000_000
"""Microseconds by which the times of leases may be out of order. If time goes back by more, a clock was set back."""
_LEAST, _MOST = -(2**63), 2**63 - 1

Place = tuple[int, str]
"""The place of a job in its lane: due_at and id. Within a priority, jobs are leased in this order."""


def lease(
    queue: str,
    transaction: Transaction,
    *,
    worker_id: str,
    limit: int,
    lease_for: timedelta,
    now: datetime,
    batch_id: str | None,
) -> Generator[None, None, list[Row]]:
    """Lease at most `limit` due jobs to a worker, and return their rows."""
    db, at = transaction.db, to_micros(now)
    token = uuid4().hex
    leasing = _Leasing(db, queue, at, worker_id=worker_id, until=to_micros(now + lease_for), token=token)
    if leasing.opens_at(GateScope.QUEUE, queue) is not None:
        return []
    room = min(limit, _room(db, queue, at=at))
    if room <= 0:
        return []
    lanes = statements("lanes")
    db.run(lanes["show_again"], (queue, at))
    db.run(lanes["look_again"], (queue, at + _SKEW))
    if batch_id is None:
        yield from leasing.of_queue(room)
    elif leasing.opens_at(GateScope.BATCH, batch_id) is None:
        leasing.of_batch(batch_id, room)
    return db.rows_of_each(statements("jobs")["job_by_number"], [(number,) for number in leasing.numbers])


def _room(db: Connection, queue: str, *, at: int) -> int:
    """How many more calls of the queue may be open."""
    limits = db.rows(statements("control")["limits"], (queue,))
    if not limits or limits[0][2] is None:
        return _MOST
    most: int = limits[0][2]
    open_now: int = db.rows(statements("leasing")["open_calls"], (queue, at, most))[0][0]
    return most - open_now


@dataclass(slots=True)
class _Leasing:
    """One run of `lease`. `numbers` has the row numbers of the leased jobs, in the order of leasing."""

    db: Connection
    queue: str
    at: int
    worker_id: str = field(kw_only=True)
    until: int = field(kw_only=True)
    token: str = field(kw_only=True)
    numbers: list[int] = field(default_factory=list[int], init=False)
    _opens: dict[tuple[GateScope, str], int | None] = field(
        default_factory=dict[tuple[GateScope, str], int | None], init=False
    )

    def opens_at(self, scope: GateScope, name: str) -> int | None:
        """The time at which a closed gate opens by itself, `_MOST` if it never does; None for an open gate."""
        if (scope, name) not in self._opens:
            gate = standing_gate(self.db, self.queue, scope, name)
            opens: int | None = None
            if gate is not None and gate.is_closed(at=from_micros(self.at)):
                for_good = gate.until is None or gate.state is GateState.CANCELLED
                opens = _MOST if for_good else to_micros_or_none(gate.until)
            self._opens[scope, name] = opens
        return self._opens[scope, name]

    def of_queue(self, room: int) -> Generator[None]:
        """Lease at most `room` jobs, in order. The lanes of a closed batch are left out until its gate opens."""
        lanes = statements("lanes")
        priority = self._next_priority(_MOST)
        while priority is not None and len(self.numbers) < room:
            due = self.db.rows(lanes["due_lanes"], (self.queue, priority, self.at))
            if not due:
                priority = self._next_priority(priority - 1) if priority > _LEAST else None
                continue
            batch, *place = due[0]
            opens = self.opens_at(GateScope.BATCH, batch[1:]) if batch else None
            if opens is None:
                before = (due[1][1], due[1][2]) if len(due) > 1 else None
                self._take((batch, priority), (place[0], place[1]), room, before=before)
            else:
                self.db.run(lanes["put_aside"], (self.queue, batch, priority, opens))
            yield

    def of_batch(self, batch_id: str, room: int) -> None:
        """Lease at most `room` jobs of one batch, in order."""
        batch = f"={batch_id}"
        for priority, due_at, job_id in self.db.rows(
            statements("lanes")["due_lanes_of_batch"], (self.queue, batch, self.at)
        ):
            if len(self.numbers) < room:
                self._take((batch, priority), (due_at, job_id), room, before=None)

    def _next_priority(self, highest: int) -> int | None:
        found: int | None = self.db.rows(statements("lanes")["next_priority"], (self.queue, highest))[0][0]
        return found

    def _take(self, lane: tuple[str, int], place: Place, room: int, *, before: Place | None) -> None:
        """Lease the jobs of one lane from `place` to `before` (included), and store where the next lease begins."""
        sql = statements("lanes")
        left = room - len(self.numbers)
        size = left if before is None else min(left, _CHUNK)
        batch, priority = lane
        key = (self.queue, batch[1:] if batch else None, priority)
        due = self.db.rows(sql["due_jobs_of_lane"], (*key, self.at, *place, min(size, _MOST)))
        ours = [row for row in due if before is None or (row[1], row[2]) <= before]
        self._lease([row[0] for row in ours])
        first = self._first(key, (_LEAST, ""))
        moved = True
        if len(ours) < len(due):
            after: Place | None = (due[len(ours)][1], due[len(ours)][2])
        elif due and len(due) == size:
            after, moved = (due[-1][1], due[-1][2]), False
        else:
            after = self._first(key, (self.at + 1, ""))
        if first is None:
            self.db.run(sql["delete_lane"], (self.queue, batch, priority))
            return
        if after is None:
            after = (self.at + _LOOK_AGAIN, "")
        expired = first < after
        if moved or expired:
            judged = self.at if expired else None
            self.db.run(sql["set_place"], (self.queue, batch, priority, *after, judged))

    def _first(self, key: Row, place: Place) -> Place | None:
        rows = self.db.rows(statements("lanes")["first_of_lane"], (*key, *place))
        return (rows[0][0], rows[0][1]) if rows else None

    def _lease(self, numbers: list[int]) -> None:
        leases = [
            (self.worker_id, self.until, f"{self.token}.{place}", number)
            for place, number in enumerate(numbers, len(self.numbers))
        ]
        self.db.run_each(statements("leasing")["lease_job"], leases)
        self.numbers += numbers
