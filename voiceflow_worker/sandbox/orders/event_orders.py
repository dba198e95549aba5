"""Orders for events on their way to the receiver: repeated, late, out of their order, lost."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from voiceflow_worker.sandbox.orders.orders import OrderBook, same_number


class EventKind(StrEnum):
    """The events that the sandbox sends, by the type of their webhook."""

    VSS = "VSS"
    """How a session ended."""
    VCA = "VCA"
    """What to do next?"""
    VCS = "VCS"
    """A leg changed its state."""
    VRU = "VRU"
    """A recording is ready."""
    VNU = "VNU"
    """The account's numbers have changed."""


class EventOrder(BaseModel):
    """What happens to `event`s of calls to `destination`, or of all where it is absent or "*".

    For `times` events, or for all. Seconds are divided by the sandbox's speed.

    `delay_seconds` holds the event back: the caller of a menu waits so much longer. `duplicates` more copies are sent,
    with the event itself (their order is then left to chance), or `duplicate_after` so many seconds, or after the
    session's summary was delivered ("VSS"). `drop` keeps the event from being sent: a menu then gets no answer.
    `retries` is how often an event is sent again that was not answered with 2xx (a VCA: with 200).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: EventKind
    destination: str | None = None
    times: int | None = Field(default=None, ge=1)
    delay_seconds: float = Field(default=0.0, ge=0)
    duplicates: int = Field(default=0, ge=0, le=100)
    duplicate_after: Annotated[float, Field(ge=0)] | Literal["VSS"] = 0.0
    drop: bool = False
    retries: int | None = Field(default=None, ge=0, le=100)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.event is EventKind.VNU and (self.for_destination or self.duplicate_after == "VSS"):
            raise ValueError("VNU is about no call: leave destination out, and give duplicate_after in seconds")
        return self

    @property
    def for_destination(self) -> str | None:
        """The destination it is for; None for every one."""
        return None if self.destination in {None, "*"} else same_number(str(self.destination))

    @property
    def count(self) -> int | None:
        """For how many events it stands; None for all."""
        return self.times


class EventOrders:
    """All orders, by the kind of event."""

    def __init__(self) -> None:
        self._books: dict[EventKind, OrderBook[EventOrder]] = {kind: OrderBook() for kind in EventKind}

    def add(self, order: EventOrder) -> None:
        """Give an order."""
        self._books[order.event].add(order)

    def take(self, kind: EventKind, destination: str | None) -> EventOrder:
        """The order for an event of a call to this destination, counted as used once; one for nothing odd if none."""
        return self._books[kind].take(destination) or _AS_USUAL[kind]

    def clear(self) -> None:
        """Forget all orders."""
        for book in self._books.values():
            book.clear()


_AS_USUAL = {kind: EventOrder(event=kind) for kind in EventKind}
