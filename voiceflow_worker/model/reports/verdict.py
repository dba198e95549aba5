"""Verdicts: each is the result of one POST to 8x8."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct


class VerdictKind(StrEnum):
    """The kind of a verdict on one POST. A gateway gives the first five; other evidence gives the last two."""

    CREATED = "created"
    """8x8 answered CREATED with a session id: the call is placed."""
    REFUSED = "refused"
    """8x8 answered NOT_CREATED with a code: nobody was called, and the same body would be refused again."""
    NOT_SENT = "not_sent"
    """It is certain that no byte of the POST was sent (`NotSentCause` says why): nobody was called; try again, unless
    the stored body is broken."""
    TURNED_AWAY = "turned_away"
    """8x8 answered before reading the call (401, 403, 404, 307, 308, 425, 429, a platform error): nobody was called;
    try again."""
    UNKNOWN = "unknown"
    """The call may have been placed. Only evidence settles it. It is not sent again, however much time passes."""
    PLACED = "placed"
    """The log export, or a person, says that the call was placed."""
    NOT_PLACED = "not_placed"
    """A person says that the call was not placed."""


NOBODY_CALLED = frozenset({VerdictKind.REFUSED, VerdictKind.NOT_SENT, VerdictKind.TURNED_AWAY})
"""The kinds of a gateway's verdicts that prove that nobody was called."""


class NotSentCause(StrEnum):
    """The reason why nothing was sent."""

    UNREACHABLE = "unreachable"
    """No connection to 8x8: refused, DNS, TLS, no answer to the connection attempt, no free connection."""
    FAULT = "fault"
    """The gateway raised an error before anything was sent."""
    BROKEN_BODY = "broken_body"
    """The stored body is not that of a call. Trying again would not help."""
    TOO_LATE = "too_late"
    """The call's `validUntil` had passed before it could be sent."""
    MISSED_SLOT = "missed_slot"
    """The call was not ready at its send slot, or its first byte could not be sent soon enough after its entry."""
    HELD = "held"
    """The queue was held while the call waited for its slot."""
    STOPPED = "stopped"
    """The worker was stopped."""
    STORE_AWAY = "store_away"
    """The store, or the worker's journal file, could not be used when the call was due."""


_CLEAR = frozenset({VerdictKind.CREATED, VerdictKind.REFUSED, VerdictKind.TURNED_AWAY})


class QueueHold(Struct, frozen=True, kw_only=True):
    """A hold of the whole queue, as a part of a verdict: until a person opens it, or for `retry_after`.

    Without both, it lasts for an interval that doubles from 1 s to 60 s.
    """

    reason: str
    until_opened: bool = False
    retry_after: timedelta | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """The result of one POST.

    `http_status` is None when no answer came. `server_date` is the clock of 8x8: the answer's Date header (RFC 9110
    §6.6.1). `cause` is for `NOT_SENT`, and for a POST that its worker cut short (`STOPPED`).
    """

    kind: VerdictKind
    message: str
    code: int | None = None
    session_id: str | None = None
    http_status: int | None = None
    server_date: datetime | None = None
    hold: QueueHold | None = None
    cause: NotSentCause | None = None

    @property
    def is_clear(self) -> bool:
        """True if 8x8 answered, and its answer decides about the call."""
        return self.kind in _CLEAR

    @property
    def is_outage(self) -> bool:
        """True if nothing was sent because 8x8 could not be reached, or the gateway failed."""
        return self.kind is VerdictKind.NOT_SENT and self.cause in {None, NotSentCause.UNREACHABLE, NotSentCause.FAULT}


class Departure(NamedTuple):
    """The moment at which a POST may leave: the time, and the seconds within which its first byte must be sent."""

    at: datetime
    within: float


BeforeFirstByte = Callable[[], Awaitable[Departure]]
"""The step before the first byte of a POST, awaited once the connection exists. If it raises, no byte is sent."""


class NotSentError(Exception):
    """Raised if a POST that has its connection is not sent after all: no byte of it has left. `verdict` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict
