"""Gates, limits and departure times in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.departures import Pace, repaced, taken
from voiceflow_worker.backends.memory.state import SharedState
from voiceflow_worker.core.ports import Control, Limits, Slots
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState, merged


class MemoryControl(Control):
    """The port `Control` in memory."""

    def __init__(self, state: SharedState) -> None:
        self._changes = state.changes
        self._batches = state.batches
        self._limits: dict[str, Limits] = {}
        self._paces: dict[str, Pace] = {}
        self._gates: dict[tuple[str, GateScope, str], Gate] = {}

    async def configure(self, queue: str, limits: Limits) -> None:
        await checkpoint()
        self._limits[queue] = limits
        self._paces[queue] = repaced(self._paces.get(queue, Pace()), limits)
        self._changes.note(queue)

    async def limits(self, queue: str) -> Limits | None:
        await checkpoint()
        return self._limits.get(queue)

    async def gate(self, ordered: Gate) -> Gate:
        await checkpoint()
        place = (ordered.queue, ordered.scope, ordered.name)
        standing = self._gates[place] = merged(self._gates.get(place), ordered, at=ordered.since)
        self._changes.note(ordered.queue)
        return standing

    async def gates(self, queue: str) -> Sequence[Gate]:
        await checkpoint()
        return [gate for gate in self._gates.values() if gate.queue == queue and gate.state is not GateState.OPEN]

    async def cancelling(self, queue: str, *, limit: int) -> Sequence[Gate]:
        await checkpoint()
        cancelled = (gate for gate in self._gates.values() if gate.queue == queue and gate.state is GateState.CANCELLED)
        return list(islice((gate for gate in cancelled if (queue, gate.name) in self._batches.queued), limit))

    async def forget_gates(self, queue: str, *, before: datetime) -> int:
        await checkpoint()
        spent = [
            place
            for place, gate in self._gates.items()
            if gate.queue == queue and gate.is_spent(at=before) and (queue, gate.name) not in self._batches.jobs
        ]
        for place in spent:
            del self._gates[place]
        return len(spent)

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        await checkpoint()
        slots, pace = taken(
            self._limits.get(queue), self._paces.get(queue, Pace()), wanted=wanted, horizon=horizon, now=now
        )
        self._paces[queue] = pace
        return slots

    def is_closed(self, queue: str, scope: GateScope, name: str, *, at: datetime) -> bool:
        """Whether the gate of this scope and name is closed at a time."""
        gate = self._gates.get((queue, scope, name))
        return gate is not None and gate.is_closed(at=at)

    def max_active(self, queue: str) -> int | None:
        """The cap on open calls of the queue; None without a cap."""
        limits = self._limits.get(queue)
        return None if limits is None else limits.max_active
