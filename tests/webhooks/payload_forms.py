"""The session summaries that 8x8 sends, in every form that its guides print or that was seen, and what each must do.

One table: a name, the event for a call's session, the state that the call ends in, and what its outcome must say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.status import SessionStatus

Json = dict[str, Any]
S = SessionStatus
ODD_LETTERS = "n\u00e3o \u2603 \U0001f600 \x00 end"


@dataclass(frozen=True)
class Call:
    """What a summary names of the call it is about."""

    client_request_id: str
    session_id: str


LEG: Json = {
    "callId": "1f048a83-ea6d-11ee-911b-e9023a97c284", "callDirection": "OUTBOUND", "callType": "PSTN",
    "initiatedTimestamp": "2024-03-25T06:01:28Z", "connectedTimestamp": "2024-03-25T06:01:37Z",
    "disconnectedTimestamp": "2024-03-25T06:01:50Z", "source": "+6531234567", "destination": "6587654321",
    "sourceFormat": "MSISDN", "destinationFormat": "MSISDN", "sourceCountryCode": "SG", "destinationCountryCode": "SG",
    "sourceRefId": "null", "callStatus": "COMPLETED", "callDuration": 13,
    "callQuality": {"mos": 4.5, "packetLossRate": 0.02, "jitter": 20},
}  # fmt: skip


def leg(**changes: object) -> Json:
    return {**deepcopy(LEG), **changes}


def whole(call: Call, **changes: object) -> Json:
    """The summary that the guides print. A change to `None` stays a null; one to `...` leaves the field out."""
    payload: Json = {
        "sessionId": call.session_id,
        "subAccountId": "acme",
        "sessionStatus": "COMPLETED",
        "startTime": "2024-03-25T06:01:30Z",
        "endTime": "2024-03-25T06:01:50Z",
        "lastAction": "SAY",
        "callCount": 1,
        "clientRequestId": call.client_request_id,
        "clientBatchId": "july",
        "details": {"callA": leg()},
        **changes,
    }
    return {
        "namespace": "VOICE", "eventType": "SESSION_SUMMARY", "description": "Summary of a completed call session",
        "payload": {name: value for name, value in payload.items() if value is not ...},
    }  # fmt: skip


def renamed(call: Call, **names: str) -> Json:
    event = whole(call)
    payload = event["payload"]
    event["payload"] = {names.get(name, name): value for name, value in payload.items()}
    return event


def enveloped(call: Call, **changes: object) -> Json:
    event = {**whole(call), **changes}
    return {name: value for name, value in event.items() if value is not ...}


@dataclass(frozen=True)
class Form:
    """One form of a summary, and what it must come to. `outcome` holds the fields that must be as given."""

    name: str
    event: Callable[[Call], Any]
    state: JobState = JobState.COMPLETED
    outcome: Mapping[str, object] = field(default_factory=dict)
    legs: int = 1


def _with_status(spelling: object, status: SessionStatus | None, state: JobState) -> Form:
    return Form(
        f"status {spelling}",
        lambda call: whole(call, sessionStatus=spelling),
        state,
        {"status": status, "status_text": str(spelling).strip()},
    )


def _with_code(code: int | str) -> Form:
    return Form(
        f"error {code!r}",
        lambda call: whole(
            call, sessionStatus="ERROR", errorDetails={"errorMsg": "It did not work", "errorCode": code}
        ),
        # -2007: 8x8 dropped the call unheard, and it has no validity of its own that would let it be sent again.
        JobState.EXPIRED if int(code) == -2007 else JobState.FAILED,
        {"code": int(code), "message": "It did not work"},
    )


STATUSES = [
    _with_status("COMPLETED", S.COMPLETED, JobState.COMPLETED),
    _with_status("No Answer", S.NO_ANSWER, JobState.UNREACHED),
    _with_status("BUSY", S.BUSY, JobState.UNREACHED),
    _with_status("FAILED", S.FAILED, JobState.FAILED),
    _with_status("COMPLETED_UNSUBSCRIBED", S.COMPLETED_UNSUBSCRIBED, JobState.COMPLETED),
    _with_status("UNSUBSCRIBED_CONTACT", S.UNSUBSCRIBED_CONTACT, JobState.UNREACHED),
]
ERRORS = [_with_code(code) for code in (-2001, "-2004")]
SPELLINGS = [
    Form("as the guides print it", whole, outcome={"last_action": "SAY", "seconds": 20.0}),
    Form("CallA", lambda call: whole(call, details={"CallA": leg()})),
    Form("callA and CallA, one of them null", lambda call: whole(call, details={"CallA": None, "callA": leg()})),
    Form("two legs", lambda call: whole(call, callCount=2, details={"CallA": leg(), "CallB": leg()}), legs=2),
    Form("names in another case", lambda call: renamed(call, sessionId="SessionID", sessionStatus="SESSION_STATUS")),
    Form("names with underscores", lambda call: renamed(call, clientRequestId="client_request_id")),
    Form("event type in another case", lambda call: enveloped(call, eventType="session_summary")),
    Form("without its envelope", lambda call: whole(call)["payload"]),
    Form("without an event type", lambda call: enveloped(call, eventType=...)),
    Form("telephone numbers as numbers", lambda call: whole(call, details={"callA": leg(destination=6587654321)})),
]
MISSING = [
    Form(
        "without optional fields",
        lambda call: {
            "eventType": "SESSION_SUMMARY",
            "payload": {
                "sessionId": call.session_id, "sessionStatus": "COMPLETED", "clientRequestId": call.client_request_id,
            },
        },
        legs=0,
        outcome={"seconds": None, "last_action": None},
    ),
    Form("without clientRequestId", lambda call: whole(call, clientRequestId=...)),
    Form("clientRequestId is the text null", lambda call: whole(call, clientRequestId="null")),
    Form("clientRequestId of somebody else", lambda call: whole(call, clientRequestId="order-42")),
    Form("without sessionId", lambda call: whole(call, sessionId=...)),
    Form("a sessionId that no session has", lambda call: whole(call, sessionId="x" * 10_000)),
    Form("details of another kind", lambda call: whole(call, details="none"), legs=0),
]  # fmt: skip
EXTRAS = [
    Form("unknown extras", lambda call: enveloped(
        whole_call := call, traceId="abc", payload={**whole(whole_call)["payload"], "newThing": {"deep": [1, None]}}
    )),
    Form("a long message", lambda call: whole(
        call, sessionStatus="FAILED", errorDetails={"errorCode": -2001, "errorMsg": "x" * 500_000}
    ), JobState.FAILED, {"message": "x" * 4000}),
    Form("letters of all kinds", lambda call: whole(
        call, sessionStatus="FAILED", errorDetails={"errorCode": -2001, "errorMsg": ODD_LETTERS}
    ), JobState.FAILED, {"message": ODD_LETTERS.replace("\0", "\ufffd")}),
]  # fmt: skip

FORMS = [*STATUSES, *ERRORS, *SPELLINGS, *MISSING, *EXTRAS]
