"""The events of calls, in the format of 8x8: summaries (VSS) and actions (VCA).

The format is described in the 8x8 guides to session summaries and call actions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.reports.events import ActionStatus, Direction
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.call import Call, SessionLeg, new_id
from voiceflow_worker.sandbox.orders import same_number

Event: TypeAlias = dict[str, Any]
"""The JSON of an event, or of a part of one."""


class Activity:
    """The running and waiting tasks of a sandbox."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine in a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def quiet(self) -> None:
        """Wait until no task is left."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def clear(self) -> None:
        """Cancel all tasks."""
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        self.clear()
        await self.quiet()


MOS = 4.3
"""The grade of the sound of each leg that was answered."""
NO_REFERENCE = "null"
"""The reference id of a number without a reference. The service sends the word "null", not a JSON null."""
_VOICE: Final[Event] = {"namespace": "VOICE", "version": 1}
_LEG_STATUS = {
    SessionStatus.COMPLETED_UNSUBSCRIBED: SessionStatus.COMPLETED,
    SessionStatus.COMPLETED_UNSUB_ERROR: SessionStatus.COMPLETED,
}


def session_summary(call: Call) -> Event:
    """Return the event for the end of a call.

    Its times are simulated: they begin at the acceptance of the call, and agree with the durations. If the sandbox runs
    faster than real time, these times are ahead of the clock.
    """
    plan, request, legs = call.plan, call.request, call.legs
    payload: Event = {
        "sessionId": call.session_id,
        "subAccountId": call.sub_account,
        "sessionStatus": plan.status,
        "startTime": wire_time(call.began),
        "endTime": wire_time(call.end),
        "lastAction": call.last_action.name,
        "callCount": len(legs),
        "details": {},
    }
    if request.client_request_id is not None:
        payload["clientRequestId"] = request.client_request_id
    if request.client_batch_id is not None:
        payload["clientBatchId"] = request.client_batch_id
    if plan.code is not None:
        payload["errorDetails"] = {"errorMsg": plan.message or "", "errorCode": plan.code}
    # The guide has two names. A third leg is only in the log of calls.
    if legs:
        payload["details"]["callA"] = _leg(call, legs[0])
    if len(legs) > 1:
        payload["details"]["callB"] = _leg(call, legs[1])
    said = "Summary of a session that has ended"
    return {**_VOICE, "eventType": "SESSION_SUMMARY", "description": said, "payload": payload}


def session_seconds(call: Call) -> float:
    """Return the duration of an ended session, by the times in its summary."""
    began, end = (datetime.fromisoformat(wire_time(moment)) for moment in (call.began, call.end))
    return (end - began).total_seconds()


def _leg(call: Call, leg: SessionLeg) -> Event:
    fields = {
        **_leg_fields(leg),
        "initiatedTimestamp": wire_time(call.moment(leg.dialled)),
        "disconnectedTimestamp": wire_time(call.moment(leg.ended)),
        "callStatus": _LEG_STATUS.get(leg.status, leg.status),
        "callDuration": 0 if leg.connected is None else round(leg.ended - leg.connected),
    }
    if leg.connected is not None:
        fields["connectedTimestamp"] = wire_time(call.moment(leg.connected))
        fields["callQuality"] = {"mos": MOS, "packetLossRate": 0.004, "jitter": 1.5}
    return fields


def _leg_fields(leg: SessionLeg) -> Event:
    """Return the fields of a leg that summaries and other events share."""
    return {
        "callId": leg.call_id,
        "callDirection": Direction.OUTBOUND,
        "callType": "PSTN",
        "sourceFormat": "MSISDN",
        "destinationFormat": "MSISDN",
        "sourceCountryCode": _country(leg.source),
        "destinationCountryCode": _country(leg.destination),
        "sourceRefId": NO_REFERENCE,
        "source": leg.source or "",
        "destination": leg.destination or "",
        "callDuration": 0,
    }


def _country(number: str | None) -> str | None:
    return phone.country_of(number) if number is not None else None


def wire_time(moment: datetime) -> str:
    """Return a time as the service writes it: in UTC, to the millisecond."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


_SIP_OK = 200
_SIP_CODES = {
    SessionStatus.COMPLETED: _SIP_OK,
    SessionStatus.BUSY: 486,
    SessionStatus.NO_ANSWER: 480,
    SessionStatus.CANCELED: 487,
}


def action_event(call: Call, *, dtmf: str | None, at: float) -> Event:
    """Return a VCA event, which asks for the next step. `at` is in simulated seconds since dialling."""
    leg = call.first_leg
    payload = {
        **_leg_fields(leg),
        "eventId": new_id(),
        "sessionId": call.session_id,
        "subAccountId": call.sub_account,
        # With a plus, as the guides print it in these events.
        "source": same_number(leg.source or ""),
        "destination": same_number(leg.destination or ""),
        "callDuration": 0 if leg.connected is None else max(0, round(at - leg.connected)),
        "destinationRefId": NO_REFERENCE,
        "sipCode": _SIP_OK,
        "timestamp": wire_time(call.moment(at)),
        "callStatus": ActionStatus.ACTION_COMPLETED,
        "eventData": {"dtmf": dtmf},
    }
    if call.client_action_id is not None:
        payload["clientActionId"] = call.client_action_id
    return {**_VOICE, "eventType": "CALL_ACTION", "description": "Action request of a call", "payload": payload}


def sip_code_of(status: SessionStatus) -> int:
    """Return the SIP status of a leg that ended with this status (RFC 3261 §21)."""
    return _SIP_CODES.get(status, 503)
