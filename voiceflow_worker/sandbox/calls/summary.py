"""The session summary (VSS) of a call that ended, as the service words it (8x8 session summary guide)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.reports.status import SESSION_VALIDITY_EXPIRED, SessionStatus
from voiceflow_worker.sandbox.calls.call import Call, Leg

NO_REFERENCE = "null"
"""The reference of a number without one: the service sends this word, not null."""
_LEG_STATUS = {
    SessionStatus.COMPLETED_UNSUBSCRIBED: SessionStatus.COMPLETED,
    SessionStatus.COMPLETED_UNSUB_ERROR: SessionStatus.COMPLETED,
}

# The guide has two: a third party is only in the log of calls.
_LEG_NAMES = ("callA", "callB")


def session_summary(call: Call) -> dict[str, object]:
    """The event for the end of a call.

    Its times begin when the call was accepted and run at the pace of the people on the phone, so that times and
    durations agree; in a sandbox that is sped up they are ahead of the clock.
    """
    plan, request, script = call.plan, call.request, call.summary_script
    legs = [] if plan.code == SESSION_VALIDITY_EXPIRED else call.legs
    payload: dict[str, object] = {
        "sessionId": call.session_id,
        "subAccountId": call.sub_account,
        "sessionStatus": plan.status.value,
        "startTime": wire_time(datetime.fromtimestamp(call.accepted_at, UTC)),
        "endTime": wire_time(call.moment(plan.ring_seconds + plan.talk_seconds)),
        "lastAction": call.last_action.name,
        "callCount": len(legs),
    }
    if request.client_request_id is not None and not (script is not None and script.no_client_request_id):
        payload["clientRequestId"] = request.client_request_id
    if request.client_batch_id is not None:
        payload["clientBatchId"] = request.client_batch_id
    if plan.code is not None:
        payload["errorDetails"] = {"errorMsg": plan.message or "", "errorCode": plan.code}
    payload["details"] = {name: _leg(call, leg) for name, leg in zip(_LEG_NAMES, legs, strict=False)}
    return event("SESSION_SUMMARY", "Summary of a session that has ended", payload)


def event(event_type: str, description: str, payload: Mapping[str, object]) -> dict[str, object]:
    """The envelope that every event of the service has."""
    return {
        "namespace": "VOICE",
        "eventType": event_type,
        "description": description,
        "version": 1,
        "payload": payload,
    }


def _leg(call: Call, leg: Leg) -> dict[str, object]:
    plan = call.plan
    fields = {
        **leg_fields(leg),
        "initiatedTimestamp": wire_time(call.moment(leg.dialled)),
        "disconnectedTimestamp": wire_time(call.moment(leg.ended)),
        "source": leg.source,
        "destination": leg.destination,
        "callStatus": _LEG_STATUS.get(leg.status, leg.status).value,
        "callDuration": 0 if leg.connected is None else round(leg.ended - leg.connected),
    }
    if leg.connected is not None:
        fields["connectedTimestamp"] = wire_time(call.moment(leg.connected))
        fields["callQuality"] = {"mos": plan.mos, "packetLossRate": plan.packet_loss, "jitter": plan.jitter}
    return fields


def leg_fields(leg: Leg) -> dict[str, object]:
    """The fields of a leg that summaries and other events share."""
    return {
        "callId": leg.call_id,
        "callDirection": leg.direction.value,
        "callType": "PSTN",
        "sourceFormat": "MSISDN",
        "destinationFormat": "MSISDN",
        "sourceCountryCode": _country(leg.source),
        "destinationCountryCode": _country(leg.destination),
        "sourceRefId": NO_REFERENCE,
    }


def _country(number: str | None) -> str | None:
    return phone.country_of(number) if number is not None else None


def wire_time(moment: datetime) -> str:
    """A moment as the service writes it: in UTC, to the millisecond."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
