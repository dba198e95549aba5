"""Holds of batches and queues, and cancelled batches, in words and as JSON."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState, HoldKind
from voiceflow_worker.model.text.wording import in_words, rfc3339


def gate_in_words(gate: Gate, zone: ZoneInfo | None = None) -> str:
    """Return a closed gate as a clause, without its reason; its times are in `zone`, by default in UTC."""
    if gate.state is GateState.CANCELLED:
        return f"{gate.scope.value} {gate.name} is cancelled"
    if gate.holder is HoldKind.IMPORT:
        return f"an import of batch {gate.name}, begun at {in_words(gate.since, zone)}, has not ended"
    if gate.holder is not None:
        return f"batch {gate.name} is held by a {gate.holder} since {in_words(gate.since, zone)}"
    end = f"until {in_words(gate.until, zone)}" if gate.until else "until somebody resumes it"
    return f"{gate.scope.value} {gate.name} is held {end}"


def closed_in_words(gate: Gate, zone: ZoneInfo | None = None) -> str:
    """Return a closed gate as a clause, with its reason."""
    return gate_in_words(gate, zone) + (f": {gate.reason}" if gate.reason else "")


def resume_of(gate: Gate) -> str:
    """Return the command that opens this gate, in backquotes."""
    if gate.scope is GateScope.BATCH:
        return f"`voiceflow resume --batch {gate.name}`"
    return "`voiceflow resume`" if gate.name == "default" else f"`voiceflow resume --queue {gate.name}`"


def gate_as_json(gate: Gate) -> dict[str, object]:
    """Return a gate as JSON, for scripts."""
    return {
        "scope": gate.scope.value,
        "name": gate.name,
        "state": gate.state.value,
        "since": rfc3339(gate.since),
        "until": rfc3339(gate.until),
        "reason": gate.reason,
    }
