"""Gates as rows."""

from __future__ import annotations

from voiceflow_worker.backends.instant import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.model.jobs.gate import Gate, GateScope, known_gate


def standing_gate(db: Connection, queue: str, scope: GateScope, name: str) -> Gate | None:
    """The gate that stands, if it was ever ordered."""
    rows = db.rows(statements("control")["gate"], (queue, scope.value, name))
    return gate_of(rows[0]) if rows else None


def gate_of(row: Row) -> Gate:
    """The gate of a row."""
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
