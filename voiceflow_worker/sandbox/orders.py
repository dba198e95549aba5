"""Orders to the sandbox, for calls, key presses, events, exports and recordings, and the choice among them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from random import Random
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status
from voiceflow_worker.sandbox.wire import Recording


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


HANGS_UP = "hangup"
_KEYS = re.compile(r"[0-9*#A-D]{1,50}")
_AFTER = 1.0
# How often each key is pressed in a hundred questions without a script; None stands for no key.
_HABITS: Sequence[tuple[str | None, int]] = (
    ("1", 34), ("2", 20), ("3", 10), ("4", 6), ("5", 5), ("6", 4), ("7", 3), ("8", 3), ("9", 5), (None, 10),
)  # fmt: skip
_ENOUGH = 25


def _checked(keys: str) -> str:
    if keys != HANGS_UP and _KEYS.fullmatch(keys) is None:
        raise ValueError(
            f'{keys[:60]!r} is not valid: give 1 to 50 keys (0-9, *, #, A-D), null for no key, or "{HANGS_UP}"'
        )
    return keys


class KeyPress(StrictModel):
    """The reaction to one question: some `keys`, no key (null), or hanging up ("hangup").

    `after` is the time in seconds from the prompt to the reaction. It is divided by the sandbox's speed.
    """

    keys: Annotated[str, AfterValidator(_checked)] | None = None
    after: float = Field(default=_AFTER, ge=0)


Try: TypeAlias = str | KeyPress | None
Entries: TypeAlias = Sequence[Try | tuple[Try, ...]]


def _all_checked(entries: Entries) -> Entries:
    for entry in entries:
        if isinstance(entry, tuple) and not entry:
            raise ValueError("a question has an empty list of tries; write null if no key is pressed")
        for press in entry if isinstance(entry, tuple) else (entry,):
            if isinstance(press, str):
                _checked(press)
    return entries


Keys: TypeAlias = Annotated[Entries, AfterValidator(_all_checked)]
"""The reactions of a caller, one entry for each question. A tuple (in JSON a list) has one entry for each try."""
Reached: TypeAlias = Literal["COMPLETED", "NO_ANSWER", "BUSY", "FAILED", "ERROR"]
"""The result of the call to a second party."""


@dataclass(frozen=True, slots=True)
class Press:
    """One reaction of the caller: the keys in order, and the seconds from the prompt to the first key."""

    digits: str
    after: float
    hangs_up: bool = False


class SimulatedCaller:
    """A caller who answers the questions of a call, by a script or at random.

    When the script has no more entries, no keys are pressed. After too many questions, the caller hangs up, so that an
    endless menu does not keep the sandbox busy.
    """

    def __init__(self, dice: Random, keys: Entries | None) -> None:
        self._dice = dice
        self._keys = keys
        self._questions = 0

    def answer(self, *, fewest: int) -> Sequence[Press]:
        """The caller's reactions to the next question, one for each try. The last reaction serves all further tries.

        `fewest` is the number of keys that the question needs.
        """
        place = self._questions
        self._questions += 1
        scripted = 0 if self._keys is None else len(self._keys)
        if place >= scripted + _ENOUGH:
            return (Press("", _AFTER, hangs_up=True),)
        if self._keys is None:
            return (self._drawn(fewest),)
        entry = self._keys[place] if place < scripted else None
        return tuple(map(_press, entry)) if isinstance(entry, tuple) else (_press(entry),)

    def _drawn(self, fewest: int) -> Press:
        after = self._dice.uniform(0.4, 3.0)
        (first,) = self._dice.choices([key for key, _ in _HABITS], [weight for _, weight in _HABITS])
        if first is None:
            return Press("", after)
        return Press(first + "".join(self._dice.choices("0123456789", k=max(fewest, 1) - 1)), after)


def _press(given: Try) -> Press:
    press = given if isinstance(given, KeyPress) else KeyPress(keys=given)
    if press.keys == HANGS_UP:
        return Press("", press.after, hangs_up=True)
    return Press(press.keys or "", press.after)


class Conduct(StrictModel):
    """The conduct of the person on the phone, in a call with questions or a second party.

    `keys` has one entry for each question of the menu; without `keys`, the seed chooses the keys. `action_seconds` is
    the length of each text or file. `bridge_outcome` is the result of calling the second party, and `bridge_seconds` is
    how long the two people talk. With `steps`, the service asks for the next step after each action, not only after
    questions. `statuses` decides if call status events (VCS) are sent; by default, only webhooks that were registered
    for VCS get them.
    """

    keys: Keys | None = None
    action_seconds: float | None = Field(default=None, ge=0)
    bridge_outcome: Reached | None = None
    bridge_seconds: float | None = Field(default=None, ge=0)
    statuses: bool | None = None
    steps: bool = False


class Script(DestinationOrder, Conduct):
    """The course of calls to `destination`, or of all calls. The seed decides everything that the script does not set.

    Scripts for one destination are used in their order: for BUSY once and then COMPLETED, add two scripts. All
    durations are divided by the sandbox's speed: `dial_seconds` from acceptance to dialling, `ring_seconds`,
    `talk_seconds`, and `delay_seconds` from the end of the call to its summary.

    An `error_code` without an `outcome` makes the call fail: -2006 (its file could not be fetched), -2005, -2003. With
    -2010 no phone rings, unless `ring_seconds` is set.

    `duplicates` is the number of further summaries. With `drop`, no summary is sent. `no_client_request_id` leaves the
    clientRequestId out of the summary. If the answer is not 2xx, the summary is sent again up to `retries` times.

    An answered call with questions or a second party takes as long as its actions. If there is a second party, the two
    people talk for `bridge_seconds`, or for `talk_seconds` if that is not set.
    """

    outcome: SessionStatus | None = None
    error_code: int | None = None
    error_message: str | None = None
    dial_seconds: float | None = Field(default=None, ge=0)
    ring_seconds: float | None = Field(default=None, ge=0)
    talk_seconds: float | None = Field(default=None, ge=0)
    delay_seconds: float | None = Field(default=None, ge=0)
    duplicates: int = Field(default=0, ge=0, le=100)
    drop: bool = False
    no_client_request_id: bool = False
    retries: int | None = Field(default=None, ge=0, le=100)

    @field_validator("outcome", mode="before")
    @classmethod
    def _any_spelling(cls, value: Any) -> Any:
        return fold_session_status(value) or value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.error_message is not None and self.error_code is None:
            raise ValueError("error_message needs an error_code: give one, or omit error_message")
        return self


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


class RowOrder(DestinationOrder):
    """An order for the log rows of the next `times` calls (null: all calls), to `destination` if it is set.

    The rows come `late_seconds`, divided by the sandbox's speed, after the end of the call. With `never`, the rows do
    not come.
    """

    late_seconds: float = Field(default=0, ge=0)
    never: bool = False


class ExportOrder(RepeatedOrder):
    """An order for the next `times` exports (default 1, null for all).

    An export ends as `status`. With `http_status`, the request that begins it is refused with this status.
    """

    times: int | None = Field(default=1, ge=1)
    status: Literal["succeeded", "empty", "failed", "cancelled", "error"] | None = None
    http_status: int | None = Field(default=None, ge=400, le=599)


class RecordingOrder(StrictModel):
    """An order for a recording of the session `session_id`, with the `url` of its file and its length in `seconds`."""

    session_id: str = Field(min_length=1)
    recording_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "UPLOAD_COMPLETED"
    url: str | None = None
    seconds: float = Field(default=0.0, ge=0)
    started_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Recordings:
    """All recordings that were ordered."""

    def __init__(self) -> None:
        self._orders: list[RecordingOrder] = []

    def add(self, order: RecordingOrder) -> None:
        """Add a recording."""
        self._orders.append(order)

    def of_session(self, session_id: str, *, sub_account: str) -> list[Recording]:
        """Return the recordings of a session, in the format of 8x8 (recordings reference)."""
        return [
            {
                "recordingId": order.recording_id,
                "sessionid": order.session_id,  # the spelling of the service
                "subAccountId": sub_account,
                "status": order.status,
                "externalFileUrl": order.url,
                "duration": order.seconds,
                "startRecordingTime": order.started_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for order in self._orders
            if order.session_id == session_id
        ]

    def clear(self) -> None:
        """Delete all recordings."""
        self._orders.clear()


class FaultKind(StrEnum):
    """The kinds of faults."""

    DELAY = "delay"
    """The answer is `seconds` late."""
    STATUS = "status"
    """The answer has `status`, with `code` and `message` as in refusals of the service, or with any `body`."""
    THROTTLE = "throttle"
    """The answer is 429, with `retry_after` if given."""
    RESET = "reset"
    """The connection is reset (TCP RST) without an answer."""
    CLOSE = "close"
    """The connection is closed (TCP FIN) without an answer."""
    CUT = "cut"
    """The connection is closed (TCP FIN) in the middle of the body of the answer."""
    STALL = "stall"
    """No answer is sent. The connection stays open, or is reset after `seconds`."""
    JUNK = "junk"
    """The answer is 200 with a `body` that is not JSON."""


class Place(StrEnum):
    """The moment at which a fault happens."""

    BEFORE = "before"
    """The whole request has come, and the call is not placed. A delay places it afterwards; no other fault does."""
    AFTER = "after"
    """The call is placed."""


_TAKES: dict[FaultKind, frozenset[str]] = {
    FaultKind.DELAY: frozenset({"seconds"}),
    FaultKind.STATUS: frozenset({"status", "code", "message", "body", "headers", "retry_after"}),
    FaultKind.THROTTLE: frozenset({"retry_after", "body", "headers"}),
    FaultKind.STALL: frozenset({"seconds"}),
    FaultKind.JUNK: frozenset({"body", "status", "headers"}),
}
_FOR_ALL = frozenset({"fault", "destination", "next_calls", "times", "place"})


class Fault(DestinationOrder):
    """One fault of the callflows endpoint, with its parameters.

    It applies to `times` POSTs (default 1, null for all), and if `destination` is set, only to POSTs for this number.
    With `next` instead of these two fields, it applies to the next `next` POSTs, whatever their destination. `place` is
    by default "before" for status and throttle, else "after", where it does most harm.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(populate_by_name=True)

    fault: FaultKind
    next_calls: int | None = Field(default=None, alias="next", ge=1)
    place: Place | None = None
    seconds: float | None = Field(default=None, ge=0)
    status: int | None = Field(default=None, ge=200, le=599)
    code: int | None = None
    message: str | None = None
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    retry_after: float | str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given, takes = self.model_fields_set, _TAKES.get(self.fault, frozenset())
        strange = sorted(given - _FOR_ALL - takes)
        if strange:
            own = f"takes {', '.join(sorted(takes))}, not" if takes else "does not take"
            raise ValueError(f"the fault '{self.fault}' {own} {', '.join(strange)}")
        if self.destination is not None and self.next_calls is not None:
            raise ValueError(
                "give 'destination' or 'next', not both; with 'destination', 'times' is the number of POSTs"
            )
        if self.next_calls is not None and "times" in given:
            raise ValueError("'next' is already the number of POSTs; omit 'times'")
        if self.fault is FaultKind.DELAY and self.seconds is None:
            raise ValueError("the fault 'delay' needs 'seconds'")
        if self.fault is FaultKind.STATUS and self.status is None:
            raise ValueError("the fault 'status' also needs the field 'status', an HTTP status")
        return self

    @property
    def is_before(self) -> bool:
        """Whether the fault happens before the call is placed."""
        turns_away = self.fault in {FaultKind.STATUS, FaultKind.THROTTLE}
        return turns_away if self.place is None else self.place is Place.BEFORE

    @property
    def count(self) -> int | None:
        """The number of POSTs that the fault applies to; None for all."""
        if self.next_calls is not None:
            return self.next_calls
        return self.times if "times" in self.model_fields_set else 1
