"""What 8x8 takes and says at its callflows endpoint, with its texts (8x8 voice status codes guide)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime

import orjson

from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import Action, read_action
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED
from voiceflow_worker.model.flows.callflow import find_problems
from voiceflow_worker.model.reports.status import api_code
from voiceflow_worker.sandbox.account import SandboxAccount
from voiceflow_worker.sandbox.call import Call, FlowRequest, new_id

# The guides print 400 with -1007 (a wrong field) and 422 with -1013 (a flow that cannot run). Others are inferred.
_UNPROCESSABLE = frozenset({-1002, -1010, -1012, -1013, -1014, -1015, -1018, -1019, -1020})
_WORDS = {
    -1001: "Invalid JSON request body",
    -1002: "Speech profile or language parameter invalid",
    -1003: "Valid maxDigits required when minDigits provided",
    -1005: "Valid overallTimeout is required when digitTimeout provided",
    -1006: "OverallTimeout should be greater than digitTimeout",
    -1008: "Valid maxDigits is required when completeOnHash is false",
    -1010: "Some actions are provided beyond the allowed count",
    -1011: "Multiple destination phone numbers found in the request",
    -1012: "Invalid Callflow : Incorrect use of action Hangup",
    -1013: "Invalid Callflow : First action should be a MakeCall action",
    -1014: "Source or caller ID is not allowed",
    -1015: "The validity period of the call flow request has expired",
    -1016: "Invalid Callflow Content: Some special characters are invalid/unaccepted",
    -1017: "Invalid MSISDN format in Destination",
    -1018: "Invalid Callflow: Execute Scenario cannot be processed together with other actions",
    -1019: "Invalid Callflow Content: scenarioName is null or empty",
    -1020: "Invalid Callflow: Invalid scenarioName or the account doesn't have permission to execute this scenario",
}
JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An HTTP answer. `summary` is its text in the ledger."""

    status: int
    body: bytes
    summary: str
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def header_list(self) -> list[tuple[bytes, bytes]]:
        """Return the headers in ASGI form, without the Date."""
        return [
            (b"content-type", self.content_type.encode()),
            (b"content-length", str(len(self.body)).encode()),
            *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()),
        ]


def created(call: Call) -> HttpAnswer:
    """Return the HTTP answer to an accepted call. The answer comes before anybody picks up the phone."""
    said: dict[str, object] = {
        "sessionId": call.session_id,
        "sessionStatus": "CREATED",
        "callFlowRequestId": call.call_flow_request_id,
        "statusCode": 1,
        "statusMessage": "Created",
    }
    if call.request.valid_until is not None:
        said["validUntil"] = call.request.valid_until
    return HttpAnswer(status=200, body=orjson.dumps(said), summary="200 CREATED")


def not_created(status: int, code: int, message: str, *, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """Return a refusal. `code` is the 8x8 code, or the HTTP status if there is none."""
    said = {
        "sessionStatus": "NOT_CREATED", "callFlowRequestId": new_id(), "statusCode": code, "statusMessage": message
    }  # fmt: skip
    summary = f"{status} NOT_CREATED" + (f" ({code})" if code < 0 else "")
    return HttpAnswer(status=status, body=orjson.dumps(said), summary=summary, headers=headers or {})


def unreadable() -> HttpAnswer:
    """Return the refusal of a body that is not JSON."""
    return _refused(Finding(message=_WORDS[-1001], code=-1001))


def judged(body: object, request: FlowRequest, account: SandboxAccount, *, now: datetime) -> HttpAnswer | None:
    """Return the refusal of a body for its first error, or None for an accepted call."""
    findings = find_problems(body, now=now)
    errors = [found for found in findings if found.is_error or found.code == VALIDITY_EXPIRED]
    errors += against_account(request.actions, account)
    if not errors:
        return None
    # 8x8 checks each field before the flow as a whole: an unknown first action is -1007, not -1013.
    return _refused(min(errors, key=lambda found: found.code in _UNPROCESSABLE))


def against_account(actions: Sequence[object], account: SandboxAccount) -> Sequence[Finding]:
    """Return a finding for each number and voice in the actions that does not belong to the account."""
    found: list[Finding] = []
    for entry in actions:
        action, params = read_action(entry)
        source, voice = params.get("source"), params.get("voiceProfile")
        if action is Action.MAKE_CALL and isinstance(source, str) and not account.owns(source):
            found.append(Finding(message=_WORDS[-1014], code=-1014))
        if isinstance(voice, str) and not account.speaks(voice):
            found.append(Finding(message=_WORDS[-1002], code=-1002))
    return found


def _refused(found: Finding) -> HttpAnswer:
    code = -9999 if found.code is None else found.code
    match code:
        case -1007:
            message = f"{found.path} should be one of: say,playFile,sayAndCapture"
        case -1009:
            # Findings of this library end with a remedy, which messages of the service do not have.
            message = f"Invalid call flow entry provided. {found.path}: {found.message.partition(';')[0]}"
        case _:
            message = _WORDS.get(code) or api_code(code).meaning
    return not_created(422 if code in _UNPROCESSABLE else 400, code, message)


def date_header(now: datetime) -> bytes:
    """Return the value of the Date header at this time in UTC (RFC 9110 §6.6.1)."""
    return format_datetime(now, usegmt=True).encode()
