"""Webhook events of 8x8 as values (8x8 webhook guides: VSS, VCA, VCS, VRU, VNU).

Reading is tolerant: missing or unreadable fields are None, spellings are folded, and undocumented fields are kept in
`extra`. Events may arrive more than once and in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from voiceflow_worker.errors import WebhookEventError
from voiceflow_worker.model.flows.values import describe, is_object
from voiceflow_worker.model.reports.payload import Payload, fold_name
from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status

LONGEST_ACTION_ID = 100_000
"""Characters of a `clientActionId`: menus store their state there, and it must come back whole."""

_SECOND = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)


def _nothing() -> Mapping[str, object]:
    return {}


class Direction(StrEnum):
    """The direction of a call: INBOUND to a number of the account, OUTBOUND from it."""

    INBOUND = "INBOUND"
    OUTBOUND = "OUTBOUND"


class ActionStatus(StrEnum):
    """The reason for which a call action event asks for the next actions."""

    ACTION_COMPLETED = "ACTION_COMPLETED"
    CALL_RECEIVED = "CALL_RECEIVED"
    DTMF_RECEIVED = "DTMF_RECEIVED"
    """Printed by the advanced IVR guide where others print ACTION_COMPLETED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallQuality:
    """The sound quality of a leg: mean opinion score (1 to 5), packets lost (0.01 is 1 %), jitter."""

    mos: float | None = None
    packet_loss_rate: float | None = None
    jitter: timedelta | None = None
    extra: Mapping[str, object] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One of the two calls of a session. `status_text` is the status as it was spelled; countries are ISO 3166."""

    call_id: str | None = None
    direction: Direction | None = None
    call_type: str | None = None
    initiated_at: datetime | None = None
    connected_at: datetime | None = None
    disconnected_at: datetime | None = None
    source: str | None = None
    destination: str | None = None
    source_format: str | None = None
    destination_format: str | None = None
    source_country: str | None = None
    destination_country: str | None = None
    source_ref: str | None = None
    destination_ref: str | None = None
    status: SessionStatus | None = None
    status_text: str | None = None
    duration: timedelta | None = None
    quality: CallQuality | None = None
    extra: Mapping[str, object] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """VSS: a session has ended. `status` is None for an unknown spelling; `status_text` has the spelling."""

    session_id: str | None = None
    sub_account_id: str | None = None
    status: SessionStatus | None = None
    status_text: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    last_action: str | None = None
    call_count: int | None = None
    client_request_id: str | None = None
    client_batch_id: str | None = None
    error_code: int | None = None
    error_message: str | None = None
    call_a: Leg | None = None
    call_b: Leg | None = None
    extra: Mapping[str, object] = field(default_factory=_nothing)

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The calls of the session in the summary, the first one first."""
        return tuple(leg for leg in (self.call_a, self.call_b) if leg is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAction:
    """VCA: the service asks what to do next. `dtmf` is None when no key was pressed in time, or none was asked for."""

    event_id: str | None = None
    call_id: str | None = None
    session_id: str | None = None
    sub_account_id: str | None = None
    call_status: ActionStatus | None = None
    status_text: str | None = None
    direction: Direction | None = None
    call_type: str | None = None
    source: str | None = None
    destination: str | None = None
    source_country: str | None = None
    destination_country: str | None = None
    dtmf: str | None = None
    client_action_id: str | None = None
    duration: timedelta | None = None
    sip_code: int | None = None
    timestamp: datetime | None = None
    extra: Mapping[str, object] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStatus:
    """VCS: a leg changed its state. 8x8's guides do not list all states, so `call_status` is kept as 8x8 spelled it."""

    event_id: str | None = None
    call_id: str | None = None
    session_id: str | None = None
    sub_account_id: str | None = None
    call_status: str | None = None
    direction: Direction | None = None
    call_type: str | None = None
    source: str | None = None
    destination: str | None = None
    source_country: str | None = None
    destination_country: str | None = None
    duration: timedelta | None = None
    sip_code: int | None = None
    timestamp: datetime | None = None
    extra: Mapping[str, object] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingReady:
    """VRU: a recording changed its state, usually to UPLOAD_COMPLETED. `file_path` is the place of the upload."""

    session_id: str | None = None
    recording_id: str | None = None
    sub_account_id: str | None = None
    status: str | None = None
    duration: timedelta | None = None
    file_path: str | None = None
    extra: Mapping[str, object] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberState:
    """One of the account's numbers: `operational_status` is Active, Unhealthy, Expiring or Inactive."""

    msisdn: str | None = None
    country: str | None = None
    operational_status: str | None = None
    reference_id: str | None = None
    updated_at: datetime | None = None
    update_status: str | None = None
    extra: Mapping[str, object] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberUpdate:
    """VNU: the account's numbers changed; `kind` is SNAPSHOT (all of them) or UPDATES."""

    sub_account_id: str | None = None
    total_numbers: int | None = None
    kind: str | None = None
    numbers: tuple[NumberState, ...] = ()
    extra: Mapping[str, object] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent:
    """An event of an unknown type or product. `payload` is its whole content."""

    event_type: str | None = None
    namespace: str | None = None
    payload: Mapping[str, object] = field(default_factory=_nothing)


Event = SessionSummary | CallAction | CallStatus | RecordingReady | NumberUpdate | UnknownEvent

_ENVELOPE = frozenset({"namespace", "eventType", "description", "version", "payload"})


def parse_event(data: object) -> Event:
    """Read the decoded JSON body of a webhook request of 8x8.

    Raises WebhookEventError if it is not an object, or has a known type and a payload that is not an object.
    """
    if not is_object(data):
        raise WebhookEventError(f"a webhook event must be a JSON object, not {describe(data)}; it can be ignored")
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
    return reader(payload, {} if content is data else envelope.rest(ignoring=_ENVELOPE))


def _session_summary(payload: Payload, extra: dict[str, object]) -> SessionSummary:
    error, details = payload.nested("errorDetails"), payload.nested("details")
    error_code = None if error is None else error.whole("errorCode")
    error_message = None if error is None else error.text("errorMsg")
    call_a = None if details is None else details.nested("callA")
    call_b = None if details is None else details.nested("callB")
    status = payload.text("sessionStatus")
    return SessionSummary(
        session_id=payload.identifier("sessionId"),
        sub_account_id=payload.identifier("subAccountId"),
        status=fold_session_status(status),
        status_text=status,
        started_at=payload.moment("startTime"),
        ended_at=payload.moment("endTime"),
        last_action=payload.text("lastAction"),
        call_count=payload.whole("callCount"),
        client_request_id=payload.identifier("clientRequestId"),
        client_batch_id=payload.identifier("clientBatchId"),
        error_code=error_code,
        error_message=error_message,
        call_a=None if call_a is None else _leg(call_a),
        call_b=None if call_b is None else _leg(call_b),
        extra=extra | payload.rest() | _left_in("errorDetails", error) | _left_in("details", details),
    )


def _leg(call: Payload) -> Leg:
    quality = call.nested("callQuality")
    status = call.text("callStatus")
    return Leg(
        call_id=call.identifier("callId"),
        direction=_direction(call),
        call_type=call.text("callType"),
        initiated_at=call.moment("initiatedTimestamp"),
        connected_at=call.moment("connectedTimestamp"),
        disconnected_at=call.moment("disconnectedTimestamp"),
        source=call.number("source"),
        destination=call.number("destination"),
        source_format=call.text("sourceFormat"),
        destination_format=call.text("destinationFormat"),
        source_country=call.text("sourceCountryCode"),
        destination_country=call.text("destinationCountryCode"),
        source_ref=call.text("sourceRefId"),
        destination_ref=call.text("destinationRefId"),
        status=fold_session_status(status),
        status_text=status,
        duration=call.duration("callDuration", unit=_SECOND),
        quality=None if quality is None else _quality(quality),
        extra=call.rest(),
    )


def _quality(quality: Payload) -> CallQuality:
    return CallQuality(
        mos=quality.decimal("mos"),
        packet_loss_rate=quality.decimal("packetLossRate"),
        jitter=quality.duration("jitter", unit=_MILLISECOND),
        extra=quality.rest(),
    )


def _call_action(payload: Payload, extra: dict[str, object]) -> CallAction:
    data = payload.nested("eventData")
    # The advanced IVR guide prints dtmf beside eventData's place, all others within it.
    dtmf = (None if data is None else data.text("dtmf")) or payload.text("dtmf")
    status = payload.text("callStatus")
    return CallAction(
        event_id=payload.identifier("eventId"),
        call_id=payload.identifier("callId"),
        session_id=payload.identifier("sessionId"),
        sub_account_id=payload.identifier("subAccountId"),
        call_status=_ACTION_STATUSES.get(fold_name(status or "")),
        status_text=status,
        direction=_direction(payload),
        call_type=payload.text("callType"),
        source=payload.number("source"),
        destination=payload.number("destination"),
        source_country=payload.text("sourceCountryCode"),
        destination_country=payload.text("destinationCountryCode"),
        dtmf=dtmf,
        client_action_id=payload.text("clientActionId", longest=LONGEST_ACTION_ID),
        duration=payload.duration("callDuration", unit=_SECOND),
        sip_code=payload.whole("sipCode"),
        timestamp=payload.moment("timestamp"),
        extra=extra | payload.rest() | _left_in("eventData", data),
    )


def _call_status(payload: Payload, extra: dict[str, object]) -> CallStatus:
    return CallStatus(
        event_id=payload.identifier("eventId"),
        call_id=payload.identifier("callId"),
        session_id=payload.identifier("sessionId"),
        sub_account_id=payload.identifier("subAccountId"),
        call_status=payload.text("callStatus"),
        direction=_direction(payload),
        call_type=payload.text("callType"),
        source=payload.number("source"),
        destination=payload.number("destination"),
        source_country=payload.text("sourceCountryCode"),
        destination_country=payload.text("destinationCountryCode"),
        duration=payload.duration("callDuration", unit=_SECOND),
        sip_code=payload.whole("sipCode"),
        timestamp=payload.moment("timestamp"),
        extra=extra | payload.rest(),
    )


def _recording(payload: Payload, extra: dict[str, object]) -> RecordingReady:
    return RecordingReady(
        session_id=payload.identifier("sessionId"),
        recording_id=payload.identifier("recordingId"),
        sub_account_id=payload.identifier("subAccountId"),
        status=payload.text("status"),
        duration=payload.duration("durationSeconds", unit=_SECOND),
        file_path=payload.text("filePath"),
        extra=extra | payload.rest(),
    )


def _number_update(payload: Payload, extra: dict[str, object]) -> NumberUpdate:
    return NumberUpdate(
        sub_account_id=payload.identifier("subAccountId"),
        total_numbers=payload.whole("totalNumbers"),
        kind=payload.text("updateEventType"),
        numbers=tuple(
            NumberState(
                msisdn=number.number("msisdn"),
                country=number.text("countryCode"),
                operational_status=number.text("operationalStatus"),
                reference_id=number.identifier("referenceId"),
                updated_at=number.moment("updatedTimestamp"),
                update_status=number.text("updateStatus"),
                extra=number.rest(),
            )
            for number in payload.listed("virtualNumbers")
        ),
        extra=extra | payload.rest(),
    )


def _direction(payload: Payload) -> Direction | None:
    text = payload.text("callDirection")
    return None if text is None else _DIRECTIONS.get(text.upper())


def _left_in(name: str, nested: Payload | None) -> dict[str, object]:
    """The unread fields of a nested object, under its name."""
    rest = {} if nested is None else nested.rest()
    return {name: rest} if rest else {}


_DIRECTIONS = {direction.value: direction for direction in Direction}
_ACTION_STATUSES = {fold_name(status.value): status for status in ActionStatus}
_READERS: Mapping[str, Callable[[Payload, dict[str, object]], Event]] = {
    "sessionsummary": _session_summary,
    "callaction": _call_action,
    "callstatus": _call_status,
    "callrecordingstatus": _recording,
    "virtualnumberupdate": _number_update,
}
