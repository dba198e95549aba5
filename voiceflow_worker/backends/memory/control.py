"""Gates, limits and departure times in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.departures import Pace, repaced, taken
from voiceflow_worker.backends.memory.lanes import NEVER
from voiceflow_worker.backends.memory.state import Batches, ChangeCounts
from voiceflow_worker.core.ports import Limits, Slots
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState, merged


class MemoryControl:
    """The port `Control` in memory."""

    def __init__(self, changes: ChangeCounts, batches: Batches) -> None:
        self._changes = changes
        self._batches = batches
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
        """Carry out an order for a gate; gives the gate as it is now."""
        await checkpoint()
        place = (ordered.queue, ordered.scope, ordered.name)
        standing = self._gates[place] = merged(self._gates.get(place), ordered, at=ordered.since)
        if ordered.scope is GateScope.BATCH:
            self._batches.on_order(ordered.queue, ordered.name)
        self._changes.note(ordered.queue)
        return standing

    async def gates(self, queue: str) -> Sequence[Gate]:
        """The gates of a queue and its batches, open ones left out."""
        await checkpoint()
        return [gate for gate in self._gates.values() if gate.queue == queue and gate.state is not GateState.OPEN]

    async def cancelling(self, queue: str, *, limit: int) -> Sequence[Gate]:
        """Gates of cancelled batches that have queued jobs, at most `limit` of them."""
        await checkpoint()
        cancelled = (gate for gate in self._gates.values() if gate.queue == queue and gate.state is GateState.CANCELLED)
        return list(islice((gate for gate in cancelled if (queue, gate.name) in self._batches.queued), limit))

    async def forget_gates(self, queue: str, *, before: datetime) -> int:
        """Drop gates of batches without a job, ordered before this time; gives how many."""
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
        """Take up to `wanted` departure times, none later than `now + horizon`."""
        await checkpoint()
        slots, pace = taken(
            self._limits.get(queue), self._paces.get(queue, Pace()), wanted=wanted, horizon=horizon, now=now
        )
        self._paces[queue] = pace
        return slots

    def opens_at(self, queue: str, scope: GateScope, name: str, *, at: datetime) -> datetime | None:
        """When this gate opens by itself; None if it is open."""
        gate = self._gates.get((queue, scope, name))
        if gate is None or not gate.is_closed(at=at):
            return None
        return NEVER if gate.until is None or gate.state is GateState.CANCELLED else gate.until

    def max_active(self, queue: str) -> int | None:
        """How many calls of the queue may be open; None: any number."""
        limits = self._limits.get(queue)
        return None if limits is None else limits.max_active
