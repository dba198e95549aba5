"""The session summary (VSS) of a call that ended, as the service words it (8x8 session summary guide)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from voiceflow_worker.model import phone
from voiceflow_worker.model.actions import Action
from voiceflow_worker.model.status import SESSION_VALIDITY_EXPIRED, SessionStatus
from voiceflow_worker.model.values import is_object
from voiceflow_worker.sandbox.call import Call

_LAST_ACTIONS = {
    Action.MAKE_CALL: "MAKE_CALL",
    Action.SAY: "SAY",
    Action.PLAY_FILE: "PLAY_FILE",
    Action.SAY_AND_CAPTURE: "SAY_AND_CAPTURE",
    Action.HANGUP: "HANGUP",
}
_LEG_STATUS = {
    SessionStatus.COMPLETED_UNSUBSCRIBED: SessionStatus.COMPLETED,
    SessionStatus.COMPLETED_UNSUB_ERROR: SessionStatus.COMPLETED,
    SessionStatus.ERROR: SessionStatus.FAILED,
}


def session_summary(call: Call) -> dict[str, object]:
    """The event that tells how the call ended.

    Its times begin when the call was accepted and run at the pace of the people on the phone, so that times and
    durations agree; in a sandbox that is sped up they are ahead of the clock.
    """
    plan, request = call.plan, call.request
    began = datetime.fromtimestamp(call.accepted_at, UTC)
    dialled = began + timedelta(seconds=plan.dial_seconds)
    ended = dialled + timedelta(seconds=plan.ring_seconds + plan.talk_seconds)
    was_dialled = plan.rings and plan.code != SESSION_VALIDITY_EXPIRED
    payload: dict[str, object] = {
        "sessionId": call.session_id,
        "subAccountId": call.sub_account,
        "sessionStatus": plan.status.value,
        "startTime": _time(began),
        "endTime": _time(ended),
        "lastAction": _last_action(call),
        "callCount": 1 if was_dialled else 0,
    }
    silent = call.script is not None and call.script.no_client_request_id
    if request.client_request_id is not None and not silent:
        payload["clientRequestId"] = request.client_request_id
    if request.client_batch_id is not None:
        payload["clientBatchId"] = request.client_batch_id
    if plan.code is not None:
        payload["errorDetails"] = {"errorMsg": plan.message or "", "errorCode": plan.code}
    payload["details"] = {"callA": _leg(call, dialled=dialled, ended=ended)} if was_dialled else {}
    return event("SESSION_SUMMARY", "Summary of a session that has ended", payload)


def event(event_type: str, description: str, payload: Mapping[str, object]) -> dict[str, object]:
    """The envelope that every event of the service has."""
    return {"namespace": "VOICE", "eventType": event_type, "description": description, "payload": payload}


def _leg(call: Call, *, dialled: datetime, ended: datetime) -> dict[str, object]:
    plan, request = call.plan, call.request
    leg: dict[str, object] = {
        "callId": str(uuid.uuid4()),
        "callDirection": "OUTBOUND",
        "callType": "PSTN",
        "initiatedTimestamp": _time(dialled),
        "disconnectedTimestamp": _time(ended),
        "source": request.source,
        "destination": request.destination,
        "sourceFormat": "MSISDN",
        "destinationFormat": "MSISDN",
        "sourceCountryCode": _country(request.source),
        "destinationCountryCode": _country(request.destination),
        "sourceRefId": "null",  # the service sends the word, not the value
        "callStatus": _LEG_STATUS.get(plan.status, plan.status).value,
        "callDuration": round(plan.talk_seconds),
    }
    if plan.is_answered:
        leg["connectedTimestamp"] = _time(dialled + timedelta(seconds=plan.ring_seconds))
        leg["callQuality"] = {"mos": plan.mos, "packetLossRate": plan.packet_loss, "jitter": plan.jitter}
    return leg


def _last_action(call: Call) -> str:
    if not call.plan.is_answered:
        return "MAKE_CALL"
    last = call.request.actions[-1] if call.request.actions else None
    name = last.get("action") if is_object(last) else None
    return next((word for action, word in _LAST_ACTIONS.items() if action == name), "MAKE_CALL")


def _country(number: str | None) -> str | None:
    return phone.country_of(number) if number is not None else None


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
