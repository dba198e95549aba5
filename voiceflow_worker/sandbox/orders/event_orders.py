"""Orders for the delivery of events: repeated, late, out of order, or lost."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from voiceflow_worker.sandbox.orders.orders import DestinationOrder


class EventKind(StrEnum):
    """The events that the sandbox sends, by the type of their webhook."""

    VSS = "VSS"
    """How a session ended."""
    VCA = "VCA"
    """The service asks for the next step of a call."""
    VCS = "VCS"
    """A leg changed its state."""
    VRU = "VRU"
    """A recording is ready."""
    VNU = "VNU"
    """The account's numbers have changed."""


class EventOrder(DestinationOrder):
    """The delivery of `event`s of calls to `destination`, or of all calls: of `times` events, or of all.

    `delay_seconds`, divided by the sandbox's speed, holds the event back: the caller of a menu waits longer.
    `duplicates` more copies are sent: with the event itself (in any order), or `duplicate_after` so many seconds, or
    after the delivery of the session's summary ("VSS"). `drop` sends no event: a menu then gets no answer. `retries` is
    how often an event that was not answered with 2xx (a VCA: with 200) is sent again.
    """

    event: EventKind
    delay_seconds: float = Field(default=0.0, ge=0)
    duplicates: int = Field(default=0, ge=0, le=100)
    duplicate_after: Annotated[float, Field(ge=0)] | Literal["VSS"] = 0.0
    drop: bool = False
    retries: int | None = Field(default=None, ge=0, le=100)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.event is EventKind.VNU and (self.for_destination or self.duplicate_after == "VSS"):
            raise ValueError("a VNU is not about a call: leave destination out, and give duplicate_after in seconds")
        return self

    @property
    def occasion(self) -> EventKind:
        """The kind of event."""
        return self.event


AS_USUAL = {kind: EventOrder(event=kind) for kind in EventKind}
"""The delivery of events without an order."""
