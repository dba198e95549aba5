"""The commands that open closed gates."""

from __future__ import annotations

from voiceflow_worker.model.jobs.gate import Gate, GateScope


def resume_of(gate: Gate) -> str:
    """The command that opens this gate, in backquotes."""
    if gate.scope is GateScope.BATCH:
        return f"`voiceflow resume --batch {gate.name}`"
    return "`voiceflow resume`" if gate.name == "default" else f"`voiceflow resume --queue {gate.name}`"
