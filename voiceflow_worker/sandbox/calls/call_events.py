"""The events of a call under way: call actions (VCA), call states (VCS) and recordings (VRU).

As the service words them (8x8 voice call action, call status and recording webhook guides).
"""

from __future__ import annotations

from enum import StrEnum

from voiceflow_worker.model.reports.events import ActionStatus
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.calls.call import Call, Leg, new_id
from voiceflow_worker.sandbox.calls.summary import NO_REFERENCE, event, leg_fields, wire_time
from voiceflow_worker.sandbox.orders.orders import same_number
from voiceflow_worker.sandbox.orders.recordings import RecordingOrder

_SIP_OK = 200
_SIP_CODES = {
    SessionStatus.COMPLETED: _SIP_OK,
    SessionStatus.BUSY: 486,
    SessionStatus.NO_ANSWER: 480,
    SessionStatus.CANCELED: 487,
}


class LegState(StrEnum):
    """The states of a leg that the call status guide lists; it has none for ringing."""

    INITIATED = "CALL_INITIATED"
    RECEIVED = "CALL_RECEIVED"
    CONNECTED = "CALL_CONNECTED"
    DISCONNECTED = "CALL_DISCONNECTED"


def action_event(
    call: Call, status: ActionStatus, *, dtmf: str | None, at: float, sip_code: int = 200
) -> dict[str, object]:
    """VCA: the service asks for the next step. `at` in the person's seconds since the dialling."""
    payload = _of_leg(call, call.first_leg, status.value, at=at, sip_code=sip_code)
    payload["eventData"] = {"dtmf": dtmf}
    if call.client_action_id is not None:
        payload["clientActionId"] = call.client_action_id
    return event("CALL_ACTION", "Action request of a call", payload)


def status_event(call: Call, leg: Leg, state: LegState, *, at: float) -> dict[str, object]:
    """VCS: a leg changed its state."""
    broke_off = state is LegState.DISCONNECTED and leg.connected is None
    payload = _of_leg(call, leg, state.value, at=at, sip_code=sip_code_of(leg.status) if broke_off else _SIP_OK)
    return event("CALL_STATUS", "Status update of a call", payload)


def sip_code_of(status: SessionStatus) -> int:
    """The SIP status of a leg that ended like this (RFC 3261 §21)."""
    return _SIP_CODES.get(status, 503)


def recording_event(call: Call, recording: RecordingOrder) -> dict[str, object]:
    """VRU: a recording was uploaded."""
    payload = {
        "sessionId": call.session_id,
        "recordingId": recording.recording_id,
        "subAccountId": call.sub_account,
        "durationSeconds": round(recording.seconds),
        "filePath": recording.url,
        "status": recording.status,
    }
    return event("CALL_RECORDING_STATUS", "Call recording status updated", payload)


def _of_leg(call: Call, leg: Leg, status: str, *, at: float, sip_code: int) -> dict[str, object]:
    return {
        **leg_fields(leg),
        "eventId": new_id(),
        "sessionId": call.session_id,
        "subAccountId": call.sub_account,
        "callStatus": status,
        "source": _number(leg.source),
        "destination": _number(leg.destination),
        "callDuration": 0 if leg.connected is None else max(0, round(at - leg.connected)),
        "destinationRefId": NO_REFERENCE,
        "sipCode": sip_code,
        "timestamp": wire_time(call.moment(at)),
    }


def _number(number: str | None) -> str | None:
    """The number with its plus, as the guides print these events."""
    return None if number is None else same_number(number)
