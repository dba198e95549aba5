"""The three code tables of the 8x8 voice API: the meaning of each code, and its remedy.

Sources: the status codes of the voice messaging guide (answers to a request), the session statuses and the error codes
of the session summary webhook. 8x8 adds codes without notice, so the lookup of an unknown code does not fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED


class SessionStatus(StrEnum):
    """The status of a session in its summary."""

    COMPLETED = "COMPLETED"
    NO_ANSWER = "NO_ANSWER"
    BUSY = "BUSY"
    CANCELED = "CANCELED"
    FAILED = "FAILED"
    ERROR = "ERROR"
    COMPLETED_UNSUBSCRIBED = "COMPLETED_UNSUBSCRIBED"
    COMPLETED_UNSUB_ERROR = "COMPLETED_UNSUB_ERROR"
    UNSUBSCRIBED_CONTACT = "UNSUBSCRIBED_CONTACT"


OPT_OUTS = frozenset(
    {SessionStatus.COMPLETED_UNSUBSCRIBED, SessionStatus.COMPLETED_UNSUB_ERROR, SessionStatus.UNSUBSCRIBED_CONTACT}
)
"""The statuses which mean that the person has opted out, during this call or earlier. With COMPLETED_UNSUB_ERROR, 8x8
failed to put the number on its block list, so only this product remembers the request."""


REACHED = frozenset(
    {SessionStatus.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED, SessionStatus.COMPLETED_UNSUB_ERROR}
)
"""The statuses which mean that the person answered."""


class Meaning(NamedTuple):
    """The meaning of a code or a status, as a clause. `remedy` is a sentence, or empty."""

    meaning: str
    remedy: str = ""


CREATED = 1
SESSION_VALIDITY_EXPIRED = -2007
FLOW_INVALID, SPEECH_FAILED, FILE_NOT_FETCHED = -2003, -2005, -2006
TRUNK_FULL = -2010
UNKNOWN_ERROR = -9999

_OWN_SOURCE = "Use a source that the account owns, or ask 8x8 to allow this number."
_NO_SCENARIO = "Write out the actions of the scenario."
_UNKNOWN_AT_8X8 = "an unknown error has occurred at 8x8"
_OUTAGE = "Call again later; contact 8x8 support if the error persists."

API_CODES: Mapping[int, Meaning] = {
    CREATED: Meaning("created: 8x8 accepted the session, and nobody has answered yet"),
    -1001: Meaning("invalid JSON request body", "Send one JSON object; validate the body to find the line and column."),
    -1002: Meaning("speech profile or language parameter invalid", "Use a voiceProfile of the account."),
    -1003: Meaning("valid maxDigits required when minDigits provided", "Add maxDigits, not less than minDigits."),
    -1004: Meaning(
        "DTMF callback url not provided",
        "Register a VCA webhook for the sub-account: it receives the key presses.",
    ),
    -1005: Meaning(
        "valid overallTimeout is required when digitTimeout provided",
        "Add an overallTimeout longer than digitTimeout.",
    ),
    -1006: Meaning(
        "overallTimeout should be greater than digitTimeout", "Make overallTimeout longer than digitTimeout."
    ),
    -1007: Meaning("invalid action type", "Use makeCall, say, playFile, sayAndCapture or hangup, in this spelling."),
    -1008: Meaning("valid maxDigits is required when completeOnHash is false", "Add maxDigits from 1 to 25."),
    -1009: Meaning("invalid call flow entry", "Correct the parameter at the path in the message."),
    -1010: Meaning("some actions are provided beyond the allowed count", "Keep at most two makeCall actions."),
    -1011: Meaning("multiple destination phone numbers found", "Give one destination for each call."),
    -1012: Meaning("incorrect use of action hangup", "Make hangup the last action, without params."),
    -1013: Meaning("first action should be makeCall", "Begin the callflow with makeCall."),
    -1014: Meaning("source or caller ID is not allowed", _OWN_SOURCE),
    VALIDITY_EXPIRED: Meaning(
        "the validity period of the request has expired",
        "Give a later validUntil. If the refused one has not passed yet, check this machine's clock.",
    ),
    -1016: Meaning(
        "some special characters are invalid or not accepted",
        "Remove control characters, emoji and markup from the texts.",
    ),
    -1017: Meaning(
        "invalid MSISDN format in destination", "Write the country code and the number, such as +6587654321."
    ),
    -1018: Meaning("executeScenario cannot be processed together with other actions", _NO_SCENARIO),
    -1019: Meaning("scenarioName is null or empty", _NO_SCENARIO),
    -1020: Meaning("the scenario does not exist, or the account may not use it", _NO_SCENARIO),
    UNKNOWN_ERROR: Meaning(
        _UNKNOWN_AT_8X8,
        "The call may have been placed: look for its summary or its row in the log export before calling again.",
    ),
}

SESSION_ERROR_CODES: Mapping[int, Meaning] = {
    -2001: Meaning("internal error at 8x8", _OUTAGE),
    -2002: Meaning("internal connectivity error at 8x8", _OUTAGE),
    FLOW_INVALID: Meaning("the call flow is invalid", "Validate the body, and the answers to call action events."),
    -2004: Meaning(
        "no coverage for this destination",
        "Ask 8x8 to open the destination's country or network for the account.",
    ),
    SPEECH_FAILED: Meaning(
        "speech synthesis failed",
        "Check that the text suits the language of the voiceProfile; call again later.",
    ),
    FILE_NOT_FETCHED: Meaning(
        "the audio file could not be downloaded",
        "Check that fileUrl is public, wav or mp3, and under 5 MB: validate the audio file.",
    ),
    SESSION_VALIDITY_EXPIRED: Meaning(
        "the validity period expired before the call was made",
        "Give a later validUntil, or send at a lower rate.",
    ),
    -2008: Meaning("the source is not on the account's allow list", _OWN_SOURCE),
    -2009: Meaning("the scenario's parameters are invalid", _NO_SCENARIO),
    TRUNK_FULL: Meaning(
        "the trunk's capacity is exceeded",
        "Lower the rate or the number of open calls, or ask 8x8 for more channels; call again later.",
    ),
    UNKNOWN_ERROR: Meaning(_UNKNOWN_AT_8X8, "Call again later."),
}

SESSION_STATUSES: Mapping[SessionStatus, Meaning] = {
    SessionStatus.COMPLETED: Meaning("answered, and ended normally"),
    SessionStatus.NO_ANSWER: Meaning("it rang and nobody answered", "Call again at another time of day."),
    SessionStatus.BUSY: Meaning("the line was busy, or the call was declined", "Call again later."),
    SessionStatus.CANCELED: Meaning(
        "the call was cancelled before it was answered", "Call again, unless it was cancelled on purpose."
    ),
    SessionStatus.FAILED: Meaning(
        "the call could not be connected", "Check that the number exists; the error code of the summary says more."
    ),
    SessionStatus.ERROR: Meaning("8x8 could not run the call flow", "The error code of the summary says why."),
    SessionStatus.COMPLETED_UNSUBSCRIBED: Meaning(
        "answered, and the person asked not to be called any more",
        "Do not call this number again; 8x8 has put it on the block list.",
    ),
    SessionStatus.COMPLETED_UNSUB_ERROR: Meaning(
        "answered, and the person asked not to be called any more, but 8x8 could not record that",
        "Do not call this number again; put it on your own suppression list.",
    ),
    SessionStatus.UNSUBSCRIBED_CONTACT: Meaning(
        "not called: the number is on the block list",
        "Do not call this number again, unless the person asks for it.",
    ),
}

NO_SUCH_NUMBER = frozenset({404, 410, 484, 604})
"""SIP codes of numbers that nobody has, or has any more."""
SIP_CODES: Mapping[int, Meaning] = {
    **dict.fromkeys(NO_SUCH_NUMBER, Meaning("the number does not exist", "Correct the number, or call it no more.")),
    410: Meaning("the number does not exist any more", "Ask for the new number, or call it no more."),
    403: Meaning("the caller id was refused", _OWN_SOURCE),
    480: Meaning("the phone is switched off or away", "Call again later."),
    **dict.fromkeys((486, 600), Meaning("the line was busy", "Call again later.")),
    603: Meaning("the call was declined", "Call again at another time, or not at all."),
    **dict.fromkeys(range(500, 600), Meaning("the network failed", _OUTAGE)),
}
"""What the SIP codes of calls that failed mean (RFC 3261 §21, as the networks behind 8x8 use them)."""

_BY_SPELLING = {status.value.replace("_", ""): status for status in SessionStatus} | {
    "CANCELLED": SessionStatus.CANCELED  # the service spells it both ways
}


def fold_session_status(spelling: object) -> SessionStatus | None:
    """Return the status that a spelling such as `NO ANSWER` or `CANCELLED` means; None for an unknown one."""
    if not isinstance(spelling, str):
        return None
    letters = "".join(filter(str.isalnum, spelling[:64])).upper()
    return _BY_SPELLING.get(letters)


def api_code(code: int) -> Meaning:
    """Return the meaning of a statusCode in an answer to a request."""
    return API_CODES.get(code) or _unknown(code)


def session_error(code: int) -> Meaning:
    """Return the meaning of an errorCode in a session summary, which may also be a code of answers."""
    return SESSION_ERROR_CODES.get(code) or api_code(code)


def _unknown(code: int) -> Meaning:
    return Meaning(
        f"code {code}, which this version of voiceflow-worker does not know",
        "Look up the code in the 8x8 documents, or ask 8x8 support.",
    )
