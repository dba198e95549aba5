"""Orders for faults of the callflows endpoint."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from voiceflow_worker.sandbox.orders.orders import DestinationOrder


class FaultKind(StrEnum):
    """The kinds of faults."""

    DELAY = "delay"
    """The answer is `seconds` late. With `until`, the answer waits for an event of the call, for a minute at most."""
    STATUS = "status"
    """The answer has `status`, with `code` and `message` as in refusals of the service, or with any `body`."""
    PLATFORM = "platform"
    """The answer is an error of 8x8's platform, which is in front of the API.

    `status` is 400, 401, 403 (the default), 404, 410 or 426. `code` and `message` replace the usual ones of the error.
    """
    THROTTLE = "throttle"
    """The answer is 429, with `retry_after` if given."""
    RESET = "reset"
    """The connection is reset (TCP RST), after the part of the answer that `within` names."""
    CLOSE = "close"
    """The connection is closed (TCP FIN) without an answer."""
    CUT = "cut"
    """The connection is closed (TCP FIN) in the middle of the answer: in its headers or its body, as `within` says."""
    STALL = "stall"
    """No answer is sent, or only the part that `within` names. The connection stays open, or is reset after `seconds`.
    """
    JUNK = "junk"
    """The answer is 200 with a `body` that is not JSON, or, with `raw`, bytes that are not HTTP."""
    SURPLUS = "surplus"
    """The answer is true, but the next POST on the same connection first gets a surplus answer.

    The surplus answer has `status` (default 429). The true answer to the next POST follows `seconds` later (default
    0.5).
    """


class Until(StrEnum):
    """The event that a delayed answer waits for."""

    VCA = "VCA"
    """The receiver has answered the first call action event of the call."""
    VSS = "VSS"
    """The summary of the session was delivered."""


class Place(StrEnum):
    """The moment at which a fault happens."""

    ARRIVAL = "arrival"
    """The headers of the request have come, and the body has not been read. The call is not placed."""
    BEFORE = "before"
    """The whole request has come, and the call is not placed. A delay places it afterwards; no other fault does."""
    AFTER = "after"
    """The call is placed."""


class Within(StrEnum):
    """The part of the answer within which the connection breaks; with NOTHING, nothing of the answer is sent."""

    NOTHING = "nothing"
    HEADERS = "headers"
    BODY = "body"


_TAKES: dict[FaultKind, frozenset[str]] = {
    FaultKind.DELAY: frozenset({"seconds", "until"}),
    FaultKind.STATUS: frozenset({"status", "code", "message", "body", "headers", "retry_after", "location"}),
    FaultKind.PLATFORM: frozenset({"status", "code", "message", "headers"}),
    FaultKind.THROTTLE: frozenset({"retry_after", "body", "headers"}),
    FaultKind.RESET: frozenset({"within"}),
    FaultKind.CLOSE: frozenset(),
    FaultKind.CUT: frozenset({"within"}),
    FaultKind.STALL: frozenset({"within", "seconds"}),
    FaultKind.JUNK: frozenset({"body", "raw", "status", "headers"}),
    FaultKind.SURPLUS: frozenset({"status", "code", "message", "body", "headers", "retry_after", "seconds"}),
}
_FOR_ALL = frozenset({"fault", "destination", "next_calls", "times", "place"})
# By default, these faults come before the call is placed. The others come after it, where they do most harm.
_TURNS_AWAY = frozenset({FaultKind.STATUS, FaultKind.PLATFORM, FaultKind.THROTTLE})
_OF_THE_PLATFORM = frozenset({400, 401, 403, 404, 410, 426})

_LONGEST_WAIT = 60.0


class Fault(DestinationOrder):
    """One fault of the callflows endpoint, with its parameters.

    It applies to `times` POSTs (default 1, null for all), and if `destination` is set, only to POSTs for this number.
    With `next` instead of these two fields, it applies to the next `next` POSTs, whatever their destination. `place` is
    by default "before" for status, platform and throttle, else "after".
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(populate_by_name=True)

    fault: FaultKind
    next_calls: int | None = Field(default=None, alias="next", ge=1)
    place: Place = Place.AFTER
    seconds: float | None = Field(default=None, ge=0)
    until: Until | None = None
    status: int | None = Field(default=None, ge=200, le=599)
    code: int | None = None
    message: str | None = None
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    retry_after: float | str | None = None
    location: str | None = None
    within: Within = Within.NOTHING
    raw: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = self.model_fields_set
        strange = sorted(given - _FOR_ALL - _TAKES[self.fault])
        if strange:
            own = ", ".join(sorted(_TAKES[self.fault]))
            raise ValueError(
                f"the fault '{self.fault}' {f'takes {own}, not' if own else 'does not take'} {', '.join(strange)}"
            )
        if self.destination is not None and self.next_calls is not None:
            raise ValueError(
                "give 'destination' or 'next', not both; with 'destination', 'times' is the number of POSTs"
            )
        if self.next_calls is not None and "times" in given:
            raise ValueError("'next' is already the number of POSTs; omit 'times'")
        if self.place is Place.ARRIVAL and self.destination is not None:
            raise ValueError(
                "with 'place': 'arrival', the fault comes before the body is read, so the destination is unknown; give "
                "'next' instead of 'destination'"
            )
        if self.fault is FaultKind.DELAY and self.seconds is None and self.until is None:
            raise ValueError("the fault 'delay' needs 'seconds' or 'until'")
        if self.until is not None and self.happens is not Place.AFTER:
            raise ValueError("'until' works only with 'place': 'after', which is the default")
        if self.fault is FaultKind.STATUS and self.status is None:
            raise ValueError("the fault 'status' also needs the field 'status', an HTTP status")
        if self.fault is FaultKind.PLATFORM and self.status not in _OF_THE_PLATFORM | {None}:
            raise ValueError(f"'status' of a platform error is one of {', '.join(map(str, sorted(_OF_THE_PLATFORM)))}")
        if self.fault is FaultKind.SURPLUS and self.happens is not Place.AFTER:
            raise ValueError("the fault 'surplus' always comes after the true answer; omit 'place'")
        if self.fault is FaultKind.CUT and self.within is Within.NOTHING and "within" in given:
            raise ValueError(
                "the fault 'cut' needs 'within': 'headers' or 'body'; to send nothing, use the fault 'close'"
            )
        return self

    @property
    def longest(self) -> float:
        """The longest delay of the answer, in seconds."""
        return self.seconds if self.seconds is not None else _LONGEST_WAIT

    @property
    def happens(self) -> Place:
        """The moment at which this fault happens."""
        if "place" in self.model_fields_set:
            return self.place
        return Place.BEFORE if self.fault in _TURNS_AWAY else Place.AFTER

    @property
    def occasion(self) -> Place | None:
        """ARRIVAL for a fault that happens before the body of a request is read, else None."""
        return Place.ARRIVAL if self.happens is Place.ARRIVAL else None

    @property
    def cut_within(self) -> Within:
        """The part of the answer within which the connection breaks; with NOTHING, nothing of the answer is sent."""
        if self.fault is FaultKind.CUT and "within" not in self.model_fields_set:
            return Within.BODY
        return self.within

    @property
    def count(self) -> int | None:
        """The number of POSTs that the fault applies to; None for all."""
        if self.next_calls is not None:
            return self.next_calls
        return self.times if "times" in self.model_fields_set else 1
