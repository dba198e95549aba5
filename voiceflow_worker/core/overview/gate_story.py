"""Closed gates as text, for the command line and for pages."""

from __future__ import annotations

from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.text.moment import in_words


def gate_in_words(gate: Gate) -> str:
    """A closed gate as a clause, without its reason."""
    if gate.state is GateState.CANCELLED:
        return f"{gate.scope.value} {gate.name} is cancelled"
    end = f"until {in_words(gate.until)}" if gate.until else "until somebody resumes it"
    return f"{gate.scope.value} {gate.name} is held {end}"
