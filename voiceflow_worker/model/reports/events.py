"""Webhook events of 8x8 as values (8x8 webhook guides: VSS, VCA, VCS, VRU, VNU).

Each field is declared with its reader and its name in the payload. Reading is tolerant: missing or unreadable fields
are None, variants of spellings are accepted, and undocumented fields are kept in `extra`. Events may arrive more than
once and in any order.
"""

# ruff: noqa: RUF009 (`read_field` makes the field of a dataclass)

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TypeVar

from voiceflow_worker.errors import WebhookEventError
from voiceflow_worker.model.flows.values import describe, is_object
from voiceflow_worker.model.reports.payload import Payload, fold_name, read_field, read_fields
from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status

LONGEST_ACTION_ID = 100_000
"""The most characters of a `clientActionId`. Menus store their state in it, so it must come back whole."""

T = TypeVar("T")


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
_WHOLE, _DECIMAL = Payload.whole, Payload.decimal
_SECONDS = partial(Payload.duration, unit=timedelta(seconds=1))
_MILLISECONDS = partial(Payload.duration, unit=timedelta(milliseconds=1))


def _extra() -> Mapping[str, object]:
    """The fields of the payload that were not read."""
    return field(default_factory=dict[str, object])


def _status(payload: Payload, name: str) -> SessionStatus | None:
    return fold_session_status(payload.text(name))


def _action_status(payload: Payload, name: str) -> ActionStatus | None:
    return _ACTION_STATUSES.get(fold_name(payload.text(name) or ""))


def _direction(payload: Payload, name: str) -> Direction | None:
    return _DIRECTIONS.get((payload.text(name) or "").upper())


def _action_id(payload: Payload, name: str) -> str | None:
    return payload.text(name, longest=LONGEST_ACTION_ID)


def _dtmf(payload: Payload, name: str) -> str | None:
    # In the advanced IVR guide, dtmf stands beside eventData; in all other guides, within eventData.
    return payload.within("eventData").text(name) or payload.text(name)


def _part(kind: Callable[..., T], payload: Payload, name: str) -> T | None:
    content = payload.nested(name)
    return None if content is None else _made(kind, content)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallQuality:
    """The sound quality of a leg: mean opinion score (1 to 5), share of packets lost (0.01 is 1 %), jitter."""

    mos: float | None = read_field(_DECIMAL, "mos")
    packet_loss_rate: float | None = read_field(_DECIMAL, "packetLossRate")
    jitter: timedelta | None = read_field(_MILLISECONDS, "jitter")
    extra: Mapping[str, object] = _extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One of the two calls of a session. `status_text` is the status as 8x8 spelled it; countries are ISO codes."""

    call_id: str | None = read_field(_IDENTIFIER, "callId")
    direction: Direction | None = read_field(_direction, "callDirection")
    call_type: str | None = read_field(_TEXT, "callType")
    initiated_at: datetime | None = read_field(_TIME, "initiatedTimestamp")
    connected_at: datetime | None = read_field(_TIME, "connectedTimestamp")
    disconnected_at: datetime | None = read_field(_TIME, "disconnectedTimestamp")
    source: str | None = read_field(_NUMBER, "source")
    destination: str | None = read_field(_NUMBER, "destination")
    source_format: str | None = read_field(_TEXT, "sourceFormat")
    destination_format: str | None = read_field(_TEXT, "destinationFormat")
    source_country: str | None = read_field(_TEXT, "sourceCountryCode")
    destination_country: str | None = read_field(_TEXT, "destinationCountryCode")
    source_ref: str | None = read_field(_TEXT, "sourceRefId")
    destination_ref: str | None = read_field(_TEXT, "destinationRefId")
    status: SessionStatus | None = read_field(_status, "callStatus")
    status_text: str | None = read_field(_TEXT, "callStatus")
    duration: timedelta | None = read_field(_SECONDS, "callDuration")
    quality: CallQuality | None = read_field(partial(_part, CallQuality), "callQuality")
    extra: Mapping[str, object] = _extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """The summary of a session (VSS). `status` is None if `status_text`, the spelling of 8x8, is not known."""

    session_id: str | None = read_field(_IDENTIFIER, "sessionId")
    sub_account_id: str | None = read_field(_IDENTIFIER, "subAccountId")
    status: SessionStatus | None = read_field(_status, "sessionStatus")
    status_text: str | None = read_field(_TEXT, "sessionStatus")
    started_at: datetime | None = read_field(_TIME, "startTime")
    ended_at: datetime | None = read_field(_TIME, "endTime")
    last_action: str | None = read_field(_TEXT, "lastAction")
    call_count: int | None = read_field(_WHOLE, "callCount")
    client_request_id: str | None = read_field(_IDENTIFIER, "clientRequestId")
    client_batch_id: str | None = read_field(_IDENTIFIER, "clientBatchId")
    error_code: int | None = read_field(_WHOLE, "errorCode", within="errorDetails")
    error_message: str | None = read_field(_TEXT, "errorMsg", within="errorDetails")
    call_a: Leg | None = read_field(partial(_part, Leg), "callA", within="details")
    call_b: Leg | None = read_field(partial(_part, Leg), "callB", within="details")
    extra: Mapping[str, object] = _extra()

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The legs in the summary, in the order of their calls."""
        return tuple(leg for leg in (self.call_a, self.call_b) if leg is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallEvent:
    """The fields of every event during a call."""

    event_id: str | None = read_field(_IDENTIFIER, "eventId")
    call_id: str | None = read_field(_IDENTIFIER, "callId")
    session_id: str | None = read_field(_IDENTIFIER, "sessionId")
    sub_account_id: str | None = read_field(_IDENTIFIER, "subAccountId")
    direction: Direction | None = read_field(_direction, "callDirection")
    call_type: str | None = read_field(_TEXT, "callType")
    source: str | None = read_field(_NUMBER, "source")
    destination: str | None = read_field(_NUMBER, "destination")
    source_country: str | None = read_field(_TEXT, "sourceCountryCode")
    destination_country: str | None = read_field(_TEXT, "destinationCountryCode")
    duration: timedelta | None = read_field(_SECONDS, "callDuration")
    sip_code: int | None = read_field(_WHOLE, "sipCode")
    timestamp: datetime | None = read_field(_TIME, "timestamp")
    extra: Mapping[str, object] = _extra()


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
class RecordingReady:
    """A change in the state of a recording (VRU), usually to UPLOAD_COMPLETED, with the place of its upload."""

    session_id: str | None = read_field(_IDENTIFIER, "sessionId")
    recording_id: str | None = read_field(_IDENTIFIER, "recordingId")
    sub_account_id: str | None = read_field(_IDENTIFIER, "subAccountId")
    status: str | None = read_field(_TEXT, "status")
    duration: timedelta | None = read_field(_SECONDS, "durationSeconds")
    file_path: str | None = read_field(_TEXT, "filePath")
    extra: Mapping[str, object] = _extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberState:
    """The state of one of the account's numbers: Active, Unhealthy, Expiring or Inactive (`operational_status`)."""

    msisdn: str | None = read_field(_NUMBER, "msisdn")
    country: str | None = read_field(_TEXT, "countryCode")
    operational_status: str | None = read_field(_TEXT, "operationalStatus")
    reference_id: str | None = read_field(_IDENTIFIER, "referenceId")
    updated_at: datetime | None = read_field(_TIME, "updatedTimestamp")
    update_status: str | None = read_field(_TEXT, "updateStatus")
    extra: Mapping[str, object] = _extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberUpdate:
    """A change of the account's numbers (VNU). `kind` is SNAPSHOT (all numbers) or UPDATES (those that changed)."""

    sub_account_id: str | None = read_field(_IDENTIFIER, "subAccountId")
    total_numbers: int | None = read_field(_WHOLE, "totalNumbers")
    kind: str | None = read_field(_TEXT, "updateEventType")
    numbers: tuple[NumberState, ...] = ()
    extra: Mapping[str, object] = _extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent:
    """An event of an unknown type or product. `payload` is its whole content."""

    event_type: str | None = None
    namespace: str | None = None
    payload: Mapping[str, object] = field(default_factory=dict[str, object])


Event = SessionSummary | CallAction | CallStatus | RecordingReady | NumberUpdate | UnknownEvent

_ENVELOPE = frozenset({"namespace", "eventType", "description", "version", "payload"})


def parse_event(data: object) -> Event:
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
        if event_type is None or fold_name(event_type) in _READERS:
            raise WebhookEventError(f"the payload of a webhook event must be a JSON object, not {describe(content)}")
        return UnknownEvent(event_type=event_type, namespace=namespace, payload=dict(data))
    payload = Payload(content)
    kind = fold_name(event_type or ("SESSION_SUMMARY" if payload.text("sessionStatus") else ""))
    reader = _READERS.get(kind)
    if reader is None or (namespace is not None and namespace.upper() != "VOICE"):
        return UnknownEvent(event_type=event_type, namespace=namespace, payload=dict(content))
    return reader(payload, extra={} if content is data else envelope.rest(ignoring=_ENVELOPE))


def _made(event: Callable[..., T], payload: Payload, *, extra: Mapping[str, object] | None = None, **more: object) -> T:
    """An event, or a part of one, with its fields read from a payload; `extra` has fields from outside the payload."""
    read = read_fields(event, payload)
    return event(**read, **more, extra={**(extra or {}), **payload.rest()})


def _number_update(payload: Payload, *, extra: Mapping[str, object]) -> NumberUpdate:
    numbers = tuple(_made(NumberState, number) for number in payload.listed("virtualNumbers"))
    return _made(NumberUpdate, payload, extra=extra, numbers=numbers)


_READERS: Mapping[str, Callable[..., Event]] = {
    "sessionsummary": partial(_made, SessionSummary),
    "callaction": partial(_made, CallAction),
    "callstatus": partial(_made, CallStatus),
    "callrecordingstatus": partial(_made, RecordingReady),
    "virtualnumberupdate": _number_update,
}
