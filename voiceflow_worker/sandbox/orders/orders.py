"""Orders to the sandbox: their base classes, and `OrderBook`, which chooses the order that applies to a call."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from voiceflow_worker.model.numbers import phone


class StrictModel(BaseModel):
    """Frozen data of an order. Unknown fields are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class RepeatedOrder(StrictModel):
    """An order that applies as often as `times` says, or always."""

    times: int | None = Field(default=None, ge=1)

    @property
    def for_destination(self) -> str | None:
        """The destination of the calls to which the order applies, with a + in front; None for all calls."""
        return None

    @property
    def occasion(self) -> object:
        """The kind of event or request to which the order applies; None if its class applies to one kind only."""
        return None

    @property
    def count(self) -> int | None:
        """The number of times that the order applies; None for always."""
        return self.times


class DestinationOrder(RepeatedOrder):
    """An order for calls to `destination`, or for all calls if it is absent or "*"."""

    destination: str | None = None

    @property
    def for_destination(self) -> str | None:
        """The destination of the calls to which the order applies; None for all calls."""
        return None if self.destination in {None, "*"} else same_number(str(self.destination))


Given = TypeVar("Given", bound=RepeatedOrder)


class OrderBook(Generic[Given]):
    """Orders, oldest first. A call takes the first order that applies to it and has uses left."""

    def __init__(self) -> None:
        self._orders: list[tuple[Given, str | None, int | None]] = []

    def __len__(self) -> int:
        return len(self._orders)

    def add(self, order: Given) -> None:
        """Add an order."""
        self._orders.append((order, order.for_destination, order.count))

    def take(self, destination: str | None, occasion: object = None) -> Given | None:
        """Return the first order for this destination and this kind of event or request, and count it as used once."""
        if not self._orders:
            return None
        wanted = None if destination is None else same_number(destination)
        for index, (order, only_for, left) in enumerate(self._orders):
            if (only_for is not None and only_for != wanted) or order.occasion != occasion:
                continue
            if left == 1:
                del self._orders[index]
            elif left is not None:
                self._orders[index] = (order, only_for, left - 1)
            return order
        return None

    def clear(self) -> None:
        """Delete all orders."""
        self._orders.clear()


def same_number(number: str) -> str:
    """Return a phone number with a + in front, and any other text unchanged."""
    return phone.normalise(number) if phone.is_e164(number) else number
