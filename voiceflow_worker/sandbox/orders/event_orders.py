"""Orders for the delivery of events: repeated, late, out of order, or lost."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from voiceflow_worker.sandbox.orders.orders import DestinationOrder


class EventKind(StrEnum):
    """The types of events that the sandbox sends. Each is also a type of webhooks."""

    VSS = "VSS"
    """A session has ended."""
    VCA = "VCA"
    """The service asks for the next step of a call."""
    VCS = "VCS"
    """A leg has changed its state."""
    VRU = "VRU"
    """A recording is ready."""


class EventOrder(DestinationOrder):
    """An order for the next `times` events of one type (null: all events), of calls to `destination` if it is set.

    `delay_seconds`, divided by the sandbox's speed, delays the event; the caller of a menu then waits longer.
    `duplicates` is the number of further copies. They are sent together with the event, or `duplicate_after` seconds
    later, or after the delivery of the session's summary ("VSS"). With `drop`, the event is not sent, and a menu gets
    no answer. If the answer is not 2xx (for a VCA: not 200), the event is sent again up to `retries` times.
    """

    event: EventKind
    delay_seconds: float = Field(default=0.0, ge=0)
    duplicates: int = Field(default=0, ge=0, le=100)
    duplicate_after: Annotated[float, Field(ge=0)] | Literal["VSS"] = 0.0
    drop: bool = False
    retries: int | None = Field(default=None, ge=0, le=100)

    @property
    def occasion(self) -> EventKind:
        """The kind of event to which the order applies."""
        return self.event


AS_USUAL = {kind: EventOrder(event=kind) for kind in EventKind}
"""For each kind of event, the order that applies if no other order does."""
