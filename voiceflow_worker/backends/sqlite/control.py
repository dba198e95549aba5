"""Gates, limits and departure times in SQLite."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import datetime, timedelta
from functools import partial

from voiceflow_worker.backends.departures import Pace, repaced, taken
from voiceflow_worker.backends.record import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit, Transaction
from voiceflow_worker.backends.sqlite.reading import Reader
from voiceflow_worker.backends.sqlite.records import drop_all
from voiceflow_worker.core.ports import Control, Limits, Slots
from voiceflow_worker.model.jobs.gate import Gate, GateScope, known_gate


class SqliteControl(Control):
    """The port `Control` in SQLite."""

    def __init__(self, writer: GroupCommit, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def configure(self, queue: str, limits: Limits) -> None:
        await self._writer.carry_out(partial(_configure, queue, limits))

    async def limits(self, queue: str) -> Limits | None:
        return await self._reader.look(partial(_limits, queue))

    async def gates(self, queue: str) -> Sequence[Gate]:
        return [_gate_of(row) for row in await self._reader.rows(statements("control")["gates_not_open"], [(queue,)])]

    async def cancelling(self, queue: str, *, limit: int) -> Sequence[Gate]:
        rows = await self._reader.rows(statements("control")["cancelling"], [(queue, limit)])
        return [_gate_of(row) for row in rows]

    async def forget_gates(self, queue: str, *, before: datetime) -> int:
        dropped = await drop_all(self._writer, statements("control")["forget_gates"], (queue, to_micros(before)))
        await drop_all(self._writer, statements("control")["forget_gate_records"], (queue,))
        return dropped

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        limits = await self.limits(queue)
        if limits is None or limits.rate is None:  # without a rate there is no pace to write
            slots, _ = taken(limits, Pace(), wanted=wanted, horizon=horizon, now=now)
            return slots
        return await self._writer.carry_out(partial(_take, queue, wanted, horizon, now))


def _configure(queue: str, limits: Limits, transaction: Transaction) -> Generator[None, None, None]:
    yield from ()
    pace = repaced(pace_of(transaction.db, queue), limits)
    row = (queue, limits.rate, limits.burst, limits.max_active, pace.tat, pace.last)
    transaction.db.run(statements("control")["configure"], row)
    transaction.changed.add(queue)


def _take(
    queue: str, wanted: int, horizon: timedelta, now: datetime, transaction: Transaction
) -> Generator[None, None, Slots]:
    yield from ()
    db = transaction.db
    limits = _limits(queue, db)
    before = pace_of(db, queue)
    slots, pace = taken(limits, before, wanted=wanted, horizon=horizon, now=now)
    if pace != before:
        db.run(statements("control")["set_pace"], (pace.tat, pace.last, queue))
    return slots


def _limits(queue: str, db: Connection) -> Limits | None:
    rows = db.rows(statements("control")["limits"], (queue,))
    if not rows:
        return None
    rate, burst, max_active = rows[0]
    return Limits(rate=rate, burst=burst, max_active=max_active)


def pace_of(db: Connection, queue: str) -> Pace:
    """The pace of a queue."""
    rows = db.rows(statements("control")["pace"], (queue,))
    return Pace(*rows[0]) if rows else Pace()


def standing_gate(db: Connection, queue: str, scope: GateScope, name: str) -> Gate | None:
    """The stored gate; None if it was never set."""
    rows = db.rows(statements("control")["gate"], (queue, scope.value, name))
    return _gate_of(rows[0]) if rows else None


def _gate_of(row: Row) -> Gate:
    queue, scope, name, state, until, reason, since = row
    return Gate(
        queue=queue,
        scope=GateScope(scope),
        name=name,
        state=known_gate(state),
        until=from_micros_or_none(until),
        reason=reason,
        since=from_micros(since),
    )


def row_of(gate: Gate) -> Row:
    """The row of a gate."""
    return (
        gate.queue,
        gate.scope.value,
        gate.name,
        gate.state.value,
        to_micros_or_none(gate.until),
        gate.reason,
        to_micros(gate.since),
    )
