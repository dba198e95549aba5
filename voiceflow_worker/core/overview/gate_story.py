"""Gates as text for people, and as JSON for scripts."""

from __future__ import annotations

from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.text.moment import in_words, rfc3339


def gate_in_words(gate: Gate) -> str:
    """A closed gate as a clause, without its reason."""
    if gate.state is GateState.CANCELLED:
        return f"{gate.scope.value} {gate.name} is cancelled"
    end = f"until {in_words(gate.until)}" if gate.until else "until somebody resumes it"
    return f"{gate.scope.value} {gate.name} is held {end}"


def closed_in_words(gate: Gate) -> str:
    """A closed gate as a clause, with its reason."""
    return gate_in_words(gate) + (f": {gate.reason}" if gate.reason else "")


def gate_as_json(gate: Gate) -> dict[str, object]:
    """A gate as JSON, for scripts: the fields that `status` shows, and the gate's state."""
    return {
        "scope": gate.scope.value,
        "name": gate.name,
        "state": gate.state.value,
        "until": rfc3339(gate.until),
        "reason": gate.reason,
    }
