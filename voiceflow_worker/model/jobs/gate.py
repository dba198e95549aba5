"""Gates: what keeps a queue or a batch from being sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class GateScope(StrEnum):
    """What a gate stands before."""

    QUEUE = "queue"
    BATCH = "batch"


class GateState(StrEnum):
    """How a gate stands."""

    OPEN = "open"
    HELD = "held"
    """Closed: until `until`, or, without one, until someone opens it."""
    CANCELLED = "cancelled"
    """Of a batch only, and for good: its queued jobs end as cancelled."""


_STATES = frozenset(GateState)


def known_gate(state: str) -> GateState:
    """How a stored gate stands; one that a newer version has ordered in a way of its own lets nothing pass."""
    return GateState(state) if state in _STATES else GateState.HELD


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate of `queue`: its own (`scope` queue, `name` the queue's), or one of its batches'."""

    queue: str
    scope: GateScope
    name: str
    state: GateState
    until: datetime | None = None
    reason: str = ""
    since: datetime

    def is_closed(self, *, at: datetime) -> bool:
        """Whether nothing may pass at this time."""
        match self.state:
            case GateState.OPEN:
                return False
            case GateState.CANCELLED:
                return True
            case GateState.HELD:
                return self.until is None or at < self.until

    def is_spent(self, *, at: datetime) -> bool:
        """Whether this gate of a batch keeps nothing any more, once no job of the batch is left.

        It was ordered before `at`, and either the batch was cancelled, or nothing is held back since then. A hold
        without an end stays: somebody may have closed a batch before its jobs come.
        """
        return (
            self.scope is GateScope.BATCH
            and self.since < at
            and (self.state is GateState.CANCELLED or not self.is_closed(at=at))
        )


def merged(standing: Gate | None, ordered: Gate, *, at: datetime) -> Gate:
    """The gate after an order: what a store keeps.

    An open order opens a held gate. A hold never shortens a standing one: a 429 that names two seconds must not open
    what a person closed, nor what another 429 closed for longer. A cancelled batch stays cancelled.
    """
    if standing is None or not standing.is_closed(at=at) or ordered.state is GateState.CANCELLED:
        return ordered
    if standing.state is GateState.CANCELLED:
        return standing
    if ordered.state is GateState.OPEN:
        return ordered
    if standing.until is None:
        return standing
    if ordered.until is None or ordered.until > standing.until:
        return ordered
    return standing
