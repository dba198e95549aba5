"""Orders to the sandbox, for calls, key presses and recordings, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from random import Random
from typing import Annotated, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.reports.status import SessionStatus


class DestinationOrder(BaseModel):
    """An order for calls to `destination`, or for all calls if it is absent or "*": as often as `times` says."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    destination: str | None = None
    times: int | None = Field(default=None, ge=1)

    @property
    def for_destination(self) -> str | None:
        """Destination of the calls to which the order applies, with a + in front; None for all calls."""
        return None if self.destination in {None, "*"} else same_number(str(self.destination))

    @property
    def count(self) -> int | None:
        """Number of times that the order applies; None for always."""
        return self.times


Given = TypeVar("Given", bound=DestinationOrder)


class OrderBook(Generic[Given]):
    """Orders, oldest first. A call takes the first order that applies to it and has uses left."""

    def __init__(self) -> None:
        self._orders: list[tuple[Given, str | None, int | None]] = []

    def __len__(self) -> int:
        return len(self._orders)

    def add(self, order: Given) -> None:
        """Add an order."""
        self._orders.append((order, order.for_destination, order.count))

    def take(self, destination: str | None) -> Given | None:
        """Return the first order for this destination, and count it as used once."""
        if not self._orders:
            return None
        wanted = None if destination is None else same_number(destination)
        for index, (order, only_for, left) in enumerate(self._orders):
            if only_for is not None and only_for != wanted:
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


HANGS_UP = "hangup"
_ENOUGH = 25


KeyText: TypeAlias = Annotated[str, Field(pattern=rf"^([0-9*#A-D]{{1,50}}|{HANGS_UP})$")]


class KeyPress(BaseModel):
    """The reaction to each try of one question: some `keys`, no key (null), or hanging up ("hangup").

    `after` is the time in seconds from the prompt to the reaction. It is divided by the sandbox's speed.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

    keys: KeyText | None = None
    after: float = Field(default=1.0, ge=0)

    @property
    def hangs_up(self) -> bool:
        """True if the person hangs up."""
        return self.keys == HANGS_UP


Keys: TypeAlias = Sequence[KeyText | KeyPress | None]
"""The reactions of a caller, one entry for each question."""
Reached: TypeAlias = Literal["COMPLETED", "NO_ANSWER", "BUSY", "FAILED", "ERROR"]
"""The result of the call to a second party."""


class SimulatedCaller:
    """A caller who answers the questions of a call, by a script or at random.

    When the script has no more entries, no keys are pressed. After too many questions, the caller hangs up, so that an
    endless menu does not keep the sandbox busy.
    """

    def __init__(self, dice: Random, keys: Keys | None) -> None:
        self._dice = dice
        self._keys = keys
        self._questions = 0

    def answer(self, *, fewest: int) -> KeyPress:
        """Return the caller's reaction to each try of the next question, which needs at least so many keys."""
        place = self._questions
        self._questions += 1
        scripted = 0 if self._keys is None else len(self._keys)
        if place >= scripted + _ENOUGH:
            return KeyPress(keys=HANGS_UP)
        if self._keys is None:
            return self._drawn(fewest)
        given = self._keys[place] if place < scripted else None
        return given if isinstance(given, KeyPress) else KeyPress(keys=given)

    def _drawn(self, fewest: int) -> KeyPress:
        after = self._dice.uniform(0.4, 3.0)
        keys = "".join(self._dice.choices("123456789", k=max(fewest, 1)))
        return KeyPress(keys=keys if self._dice.random() < 0.9 else None, after=after)


class Script(DestinationOrder):
    """The course of calls to `destination`, or of all calls. The seed decides everything that the script does not set.

    Scripts for one destination are used in their order: for BUSY once and then COMPLETED, add two scripts. All
    durations are divided by the sandbox's speed: `ring_seconds`, `talk_seconds`, and `delay_seconds` from the end of
    the call to its summary.

    `duplicates` is the number of further summaries. With `drop`, no summary is sent.

    An answered call with questions or a second party takes as long as its actions. `keys` has one entry for each
    question of the menu; without `keys`, the seed chooses the keys. `bridge_outcome` is the result of calling the
    second party.
    """

    outcome: SessionStatus | None = None
    ring_seconds: float | None = Field(default=None, ge=0)
    talk_seconds: float | None = Field(default=None, ge=0)
    delay_seconds: float | None = Field(default=None, ge=0)
    duplicates: int = Field(default=0, ge=0, le=100)
    drop: bool = False
    keys: Keys | None = None
    bridge_outcome: Reached | None = None


class FaultKind(StrEnum):
    """The kinds of faults."""

    DELAY = "delay"
    """The answer is `seconds` late."""
    STATUS = "status"
    """The answer has `status`, as in refusals of the service, and `retry_after` if given."""
    RESET = "reset"
    """The connection is reset (TCP RST) without an answer."""
    CLOSE = "close"
    """The connection is closed (TCP FIN) without an answer."""
    CUT = "cut"
    """The connection is closed (TCP FIN) in the middle of the body of the answer."""
    JUNK = "junk"
    """The answer is 200 with a page that is not JSON."""


class Place(StrEnum):
    """The moment at which a fault happens."""

    BEFORE = "before"
    """The whole request has come, and the call is not placed. A delay places it afterwards; no other fault does."""
    AFTER = "after"
    """The call is placed."""


class Fault(DestinationOrder):
    """One fault of the callflows endpoint, with its parameters.

    It applies to `times` POSTs (default 1, null for all), and if `destination` is set, only to POSTs for this number.
    With `next` instead of these two fields, it applies to the next `next` POSTs, whatever their destination. `place` is
    by default "before" for status, else "after", where it does most harm.
    """

    fault: FaultKind
    next_calls: int | None = Field(default=None, alias="next", ge=1)
    place: Place | None = None
    seconds: float | None = Field(default=None, ge=0)
    status: int | None = Field(default=None, ge=200, le=599)
    retry_after: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.next_calls is not None and {"destination", "times"} & self.model_fields_set:
            raise ValueError("'next' is the number of POSTs to any destination: omit 'destination' and 'times'")
        if self.fault is FaultKind.DELAY and self.seconds is None:
            raise ValueError("the fault 'delay' needs 'seconds'")
        if self.fault is FaultKind.STATUS and self.status is None:
            raise ValueError("the fault 'status' also needs the field 'status'")
        return self

    @property
    def is_before(self) -> bool:
        """True if the fault happens before the call is placed."""
        return self.fault is FaultKind.STATUS if self.place is None else self.place is Place.BEFORE

    @property
    def count(self) -> int | None:
        """Number of POSTs that the fault applies to; None for all."""
        if self.next_calls is not None:
            return self.next_calls
        return self.times if "times" in self.model_fields_set else 1
