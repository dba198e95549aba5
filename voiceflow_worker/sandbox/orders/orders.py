"""The book of orders to the sandbox, and the calls that an order is for."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from voiceflow_worker.model.numbers import phone


class Order(Protocol):
    """An order for some calls."""

    @property
    def for_destination(self) -> str | None:
        """The destination it is for, as `same_number` writes it; None for every destination."""
        ...

    @property
    def count(self) -> int | None:
        """For how many calls it stands; None for all."""
        ...


class DestinationOrder(BaseModel):
    """An order for calls to `destination`, or for all calls where it is absent or "*"; `times` of them, or all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    destination: str | None = None
    times: int | None = Field(default=None, ge=1)

    @property
    def for_destination(self) -> str | None:
        """The destination it is for; None for every one."""
        return None if self.destination in {None, "*"} else same_number(str(self.destination))

    @property
    def count(self) -> int | None:
        """For how many calls or events it stands; None for all."""
        return self.times


Given = TypeVar("Given", bound=Order)


class OrderBook(Generic[Given]):
    """Orders in the order they were given. A call takes the first one that is for it and not used up."""

    def __init__(self) -> None:
        self._orders: list[tuple[Given, int | None]] = []

    def __len__(self) -> int:
        return len(self._orders)

    def add(self, order: Given) -> None:
        """Add an order."""
        self._orders.append((order, order.count))

    def take(self, destination: str | None) -> Given | None:
        """The order to carry out for a call to this destination, counted as used once."""
        if not self._orders:
            return None
        wanted = None if destination is None else same_number(destination)
        for index, (order, left) in enumerate(self._orders):
            if order.for_destination is not None and order.for_destination != wanted:
                continue
            if left == 1:
                del self._orders[index]
            elif left is not None:
                self._orders[index] = (order, left - 1)
            return order
        return None

    def clear(self) -> None:
        """Forget all orders."""
        self._orders.clear()


def same_number(number: str) -> str:
    """One writing for a number with and without its +; anything else stays as it is."""
    return phone.normalise(number) if phone.is_e164(number) else number
