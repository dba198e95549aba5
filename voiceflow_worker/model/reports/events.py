"""Webhook events of 8x8 as values (8x8 webhook guides: VSS, VCA, VCS).

Each field that is used is declared with its reader and its name in the payload. Reading is tolerant: missing or
unreadable fields are None, and variants of spellings are accepted. Events may arrive more than once and in any order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any, TypeVar, cast

from voiceflow_worker.errors import WebhookEventError
from voiceflow_worker.model.flows.values import describe, is_list, is_object
from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.reports.outcome import CallLeg
from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status

# 8x8 sends "null" and "Null" for missing values.
_NOTHING = frozenset({"", "null", "none"})
_NUMBER_TEXT = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_KEYS = re.compile(r"[0-9*#]+")
_LARGEST = 10**18
# A time above this is in milliseconds since 1970: in seconds, it would be in the year 5138.
_SECONDS_END = 10**11

LONGEST_TEXT = 4000
"""The most characters of a text that are kept: far more than in any example of the guides."""
LONGEST_EVENT_ID = 200
"""The most characters of an identifier in an event; longer ones are ignored. Identifiers of 8x8 have 36 characters, and
ours at most 50."""


class Payload:
    """One JSON object of an event, read field by field. No method raises.

    Names are matched without case, dashes and underscores (`CallA`, `callA`).
    """

    def __init__(self, data: Mapping[str, object]) -> None:
        self._data = data
        self._names: dict[str, str] = {}
        for name, value in data.items():  # of two spellings of one name, the first one with a value
            if value is not None:
                self._names.setdefault(fold_name(name), name)

    def text(self, name: str, *, longest: int = LONGEST_TEXT) -> str | None:
        """Return a string without blanks around it, cut after `longest` characters, or an integer as a string.

        None is returned for null, "null" and an empty string.
        """
        value = self.raw(name)
        if isinstance(value, str):
            text = value[:longest].strip()
            return None if text.casefold() in _NOTHING else text
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
            return str(value)
        return None

    def identifier(self, name: str) -> str | None:
        """Return an id as a string; None for one of more than 200 characters."""
        value = self.raw(name)
        if isinstance(value, str) and len(value) > LONGEST_EVENT_ID:
            return None
        return self.text(name)

    def number(self, name: str) -> str | None:
        """Return a telephone number, with its + if it is in E.164 form; else (such as masked) unchanged."""
        text = self.text(name)
        return phone.normalise(text) if text is not None and phone.is_e164(text) else text

    def whole(self, name: str) -> int | None:
        """Return a whole number, which the field may have as a string; None for any other value."""
        found = self.decimal(name)
        return int(found) if found is not None and found.is_integer() else None

    def decimal(self, name: str) -> float | None:
        """Return a finite number, which the field may have as a string; None for any other value."""
        value = self.raw(name)
        if isinstance(value, str) and _NUMBER_TEXT.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            return None
        return float(value)

    def duration(self, name: str, *, unit: timedelta) -> timedelta | None:
        """Return a number of units (`unit`) as a duration; None below 0, and for a century or more."""
        count = self.decimal(name)
        if count is None or not 0 <= count < timedelta(days=36500) / unit:
            return None
        return count * unit

    def moment(self, name: str) -> datetime | None:
        """Return a time in UTC, from ISO 8601, or from seconds or milliseconds since 1970."""
        value = self.raw(name)
        if isinstance(value, str) and _NUMBER_TEXT.fullmatch(value.strip()) and len(value.strip()) > len("20240325"):
            value = float(value)
        return _moment(value)

    def nested(self, name: str) -> Payload | None:
        """Return an object within this object."""
        value = self.raw(name)
        return Payload(value) if is_object(value) else None

    def listed(self, name: str) -> tuple[Payload, ...]:
        """Return the objects in an array."""
        value = self.raw(name)
        return tuple(Payload(item) for item in value if is_object(item)) if is_list(value) else ()

    def raw(self, name: str) -> object:
        """Return the value, unchanged; None if it is missing."""
        found = self._names.get(fold_name(name))
        return None if found is None else self._data[found]


@lru_cache(maxsize=2048)  # folding took half the time of reading a summary, and events have few names
def fold_name(name: str) -> str:
    """Return a name in lower case without dashes, underscores and blanks: `eventtype` for EVENT_TYPE."""
    return "".join(filter(str.isalnum, name)).casefold()


def _moment(value: object) -> datetime | None:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            return None
        return datetime.fromtimestamp(value if value < _SECONDS_END else value / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):  # no such day, or beyond the year 9999
        return None


T = TypeVar("T")
_READER, _IS_NEEDED = "reader", "is needed"


def read_field(
    reader: Callable[[Payload, str], T], name: str, *, within: str | None = None, default: T | None = None
) -> T:
    """Return a dataclass field whose value `reader` reads under `name`, from the object `within`, if given."""

    def read(payload: Payload) -> T:
        return reader(payload if within is None else payload.nested(within) or Payload({}), name)

    return cast("T", field(default=default, metadata={_READER: read}))


def needed_field(reader: Callable[[Payload, str], T | None], name: str) -> T:
    """Return a required dataclass field. If its value is missing, `entry_of` returns None."""

    def read(payload: Payload) -> T | None:
        return reader(payload, name)

    return cast("T", field(metadata={_READER: read, _IS_NEEDED: True}))


def read_fields(kind: Callable[..., object], payload: Payload) -> dict[str, Any]:
    """Return the declared fields of a dataclass, read from a payload."""
    return {name: reader(payload) for name, reader, _ in _declared(kind)}


def entry_of(kind: Callable[..., T], payload: Payload) -> T | None:
    """Return a dataclass with its fields read from a payload; None if a field that it needs is missing."""
    found = read_fields(kind, payload)
    lacks_one = any(is_needed and found[name] is None for name, _, is_needed in _declared(kind))
    return None if lacks_one else kind(**found)


@lru_cache
def _declared(kind: Any) -> tuple[tuple[str, Callable[[Payload], object], bool], ...]:
    return tuple(
        (each.name, each.metadata[_READER], _IS_NEEDED in each.metadata)
        for each in fields(kind)
        if _READER in each.metadata
    )


# ruff: noqa: RUF009 (`read_field` makes the field of a dataclass)


LONGEST_ACTION_ID = 100_000
"""The most characters of a `clientActionId`. Menus store their state in it, so it must come back whole."""


class Direction(StrEnum):
    """The direction of a call: INBOUND to a number of the account, OUTBOUND from it."""

    INBOUND = "INBOUND"
    OUTBOUND = "OUTBOUND"


class ActionStatus(StrEnum):
    """The reason why a call action event asks for the next actions."""

    ACTION_COMPLETED = "ACTION_COMPLETED"
    CALL_RECEIVED = "CALL_RECEIVED"
    DTMF_RECEIVED = "DTMF_RECEIVED"
    """The name of ACTION_COMPLETED in the advanced IVR guide."""


_DIRECTIONS = {direction.value: direction for direction in Direction}
_ACTION_STATUSES = {fold_name(status.value): status for status in ActionStatus}
_TEXT, _IDENTIFIER, _NUMBER, _TIME = Payload.text, Payload.identifier, Payload.number, Payload.moment
_WHOLE = Payload.whole
_SECOND, _MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
_SECONDS = partial(Payload.duration, unit=_SECOND)


def read_status(payload: Payload, name: str) -> SessionStatus | None:
    """Return the status of a session."""
    return fold_session_status(payload.text(name))


def _action_status(payload: Payload, name: str) -> ActionStatus | None:
    return _ACTION_STATUSES.get(fold_name(payload.text(name) or ""))


def read_direction(payload: Payload, name: str) -> Direction | None:
    """Return the direction of a call."""
    return _DIRECTIONS.get((payload.text(name) or "").upper())


def _action_id(payload: Payload, name: str) -> str | None:
    return payload.text(name, longest=LONGEST_ACTION_ID)


def _dtmf(payload: Payload, name: str) -> str | None:
    # In the advanced IVR guide, dtmf is beside eventData; in all other guides, within eventData. Its tables call
    # eventData a string, and accounts have got the keys alone there.
    inner = payload.nested("eventData")
    keys = payload.text("eventData") or ""
    return (inner and inner.text(name)) or payload.text(name) or (keys if _KEYS.fullmatch(keys) else None)


def _leg(payload: Payload, name: str) -> CallLeg | None:
    leg = payload.nested(name)
    if leg is None:
        return None
    quality = leg.nested("callQuality") or Payload({})
    duration, jitter = leg.duration("callDuration", unit=_SECOND), quality.duration("jitter", unit=_MILLISECOND)
    return CallLeg(
        call_id=leg.identifier("callId"),
        source=leg.number("source"),
        destination=leg.number("destination"),
        status=leg.text("callStatus"),
        initiated_at=leg.moment("initiatedTimestamp"),
        connected_at=leg.moment("connectedTimestamp"),
        disconnected_at=leg.moment("disconnectedTimestamp"),
        seconds=None if duration is None else duration.total_seconds(),
        mos=quality.decimal("mos"),
        packet_loss_rate=quality.decimal("packetLossRate"),
        jitter_ms=None if jitter is None else jitter / _MILLISECOND,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """The summary of a session (VSS). `status` is None if `status_text` is not known."""

    session_id: str | None = read_field(_IDENTIFIER, "sessionId")
    status: SessionStatus | None = read_field(read_status, "sessionStatus")
    status_text: str | None = read_field(_TEXT, "sessionStatus")
    started_at: datetime | None = read_field(_TIME, "startTime")
    ended_at: datetime | None = read_field(_TIME, "endTime")
    last_action: str | None = read_field(_TEXT, "lastAction")
    call_count: int | None = read_field(_WHOLE, "callCount")
    client_request_id: str | None = read_field(_IDENTIFIER, "clientRequestId")
    client_batch_id: str | None = read_field(_IDENTIFIER, "clientBatchId")
    error_code: int | None = read_field(_WHOLE, "errorCode", within="errorDetails")
    error_message: str | None = read_field(_TEXT, "errorMsg", within="errorDetails")
    call_a: CallLeg | None = read_field(_leg, "callA", within="details")
    call_b: CallLeg | None = read_field(_leg, "callB", within="details")

    @property
    def legs(self) -> tuple[CallLeg, ...]:
        """Legs in the summary, in the order of their calls."""
        return tuple(leg for leg in (self.call_a, self.call_b) if leg is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallEvent:
    """The fields of every event during a call."""

    event_id: str | None = read_field(_IDENTIFIER, "eventId")
    call_id: str | None = read_field(_IDENTIFIER, "callId")
    session_id: str | None = read_field(_IDENTIFIER, "sessionId")
    direction: Direction | None = read_field(read_direction, "callDirection")
    source: str | None = read_field(_NUMBER, "source")
    destination: str | None = read_field(_NUMBER, "destination")
    duration: timedelta | None = read_field(_SECONDS, "callDuration")
    sip_code: int | None = read_field(_WHOLE, "sipCode")
    timestamp: datetime | None = read_field(_TIME, "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAction(_CallEvent):
    """A request for the next actions of a call (VCA). `dtmf` has the pressed keys; None if there were none."""

    call_status: ActionStatus | None = read_field(_action_status, "callStatus")
    status_text: str | None = read_field(_TEXT, "callStatus")
    dtmf: str | None = read_field(_dtmf, "dtmf")
    client_action_id: str | None = read_field(_action_id, "clientActionId")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStatus(_CallEvent):
    """A change in the state of a leg (VCS). `call_status` is as 8x8 spells it: the guides do not list all states."""

    call_status: str | None = read_field(_TEXT, "callStatus")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent:
    """An event of an unknown type or product. `payload` is its whole content."""

    event_type: str | None = None
    namespace: str | None = None
    payload: Mapping[str, object] = field(default_factory=dict[str, object])


WebhookEvent = SessionSummary | CallAction | CallStatus | UnknownEvent


def parse_event(data: object) -> WebhookEvent:
    """Read the decoded JSON body of a webhook request of 8x8.

    Raises WebhookEventError if the body, or the payload of an event of a known type, is not an object.
    """
    if not is_object(data):
        raise WebhookEventError(f"a webhook event must be a JSON object, not {describe(data)}; ignore this request")
    envelope = Payload(data)
    event_type, namespace = envelope.text("eventType"), envelope.text("namespace")
    content = envelope.raw("payload")
    if content is None and event_type is None and envelope.text("sessionStatus"):
        content = data  # the API introduction prints summaries without their envelope
    if not is_object(content):
        if event_type is None or fold_name(event_type) in _EVENTS:
            raise WebhookEventError(f"the payload of a webhook event must be a JSON object, not {describe(content)}")
        return UnknownEvent(event_type=event_type, namespace=namespace, payload=dict(data))
    payload = Payload(content)
    kind = fold_name(event_type or ("SESSION_SUMMARY" if payload.text("sessionStatus") else ""))
    event = _EVENTS.get(kind)
    if event is None or (namespace is not None and namespace.upper() != "VOICE"):
        return UnknownEvent(event_type=event_type, namespace=namespace, payload=dict(content))
    return event(**read_fields(event, payload))


_EVENTS: Mapping[str, Callable[..., WebhookEvent]] = {
    "sessionsummary": SessionSummary,
    "callaction": CallAction,
    "callstatus": CallStatus,
}
