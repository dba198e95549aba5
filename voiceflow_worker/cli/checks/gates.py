"""Closed gates in words, and the commands that open them."""

from __future__ import annotations

from voiceflow_worker.core.overview.gate_story import gate_in_words
from voiceflow_worker.model.jobs.gate import Gate, GateScope


def closed_in_words(gate: Gate) -> str:
    """A closed gate as a clause, with its reason."""
    return gate_in_words(gate) + (f": {gate.reason}" if gate.reason else "")


def resume_of(gate: Gate) -> str:
    """The command that opens this gate, in backquotes."""
    if gate.scope is GateScope.BATCH:
        return f"`voiceflow resume --batch {gate.name}`"
    return "`voiceflow resume`" if gate.name == "default" else f"`voiceflow resume --queue {gate.name}`"
