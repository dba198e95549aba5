"""Gates, limits and departure times in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.departures import Pace, repaced, taken
from voiceflow_worker.backends.memory.state import Changes
from voiceflow_worker.core.ports import Limits, Slots
from voiceflow_worker.model.gate import Gate, GateScope, GateState, merged


class MemoryControl:
    """The port `Control` in memory."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._limits: dict[str, Limits] = {}
        self._paces: dict[str, Pace] = {}
        self._gates: dict[tuple[str, GateScope, str], Gate] = {}

    async def configure(self, queue: str, limits: Limits) -> None:
        """Set the queue's limits."""
        await checkpoint()
        self._limits[queue] = limits
        self._paces[queue] = repaced(self._paces.get(queue, Pace()), limits)
        self._changes.note(queue)

    async def limits(self, queue: str) -> Limits | None:
        """The queue's limits; None if it was never configured."""
        await checkpoint()
        return self._limits.get(queue)

    async def gate(self, ordered: Gate) -> Gate:
        """Carry out an order for a gate; gives what stands now."""
        await checkpoint()
        place = (ordered.queue, ordered.scope, ordered.name)
        standing = self._gates[place] = merged(self._gates.get(place), ordered, at=ordered.since)
        self._changes.note(ordered.queue)
        return standing

    async def gates(self, queue: str) -> Sequence[Gate]:
        """The gates of a queue and its batches, open ones left out."""
        await checkpoint()
        return [gate for gate in self._gates.values() if gate.queue == queue and gate.state is not GateState.OPEN]

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        """Take up to `wanted` departure times, none later than `now + horizon`."""
        await checkpoint()
        slots, pace = taken(
            self._limits.get(queue), self._paces.get(queue, Pace()), wanted=wanted, horizon=horizon, now=now
        )
        self._paces[queue] = pace
        return slots

    def is_closed(self, queue: str, scope: GateScope, name: str, *, at: datetime) -> bool:
        """Whether this gate lets nothing pass."""
        gate = self._gates.get((queue, scope, name))
        return gate is not None and gate.is_closed(at=at)

    def max_active(self, queue: str) -> int | None:
        """How many calls of the queue may be open; None: any number."""
        limits = self._limits.get(queue)
        return None if limits is None else limits.max_active
