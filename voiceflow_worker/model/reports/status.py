"""The three code tables of the 8x8 voice API: the meaning of each code, and its remedy.

Sources: the status codes of the voice messaging guide (answers to a request), the session statuses and the error codes
of the session summary webhook. Codes are added without notice: looking one up never fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from voiceflow_worker.errors import Remedy
from voiceflow_worker.model.flows.validity import VALIDITY_EXPIRED


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
"""The person asked not to be called, in this call or before. With COMPLETED_UNSUB_ERROR, 8x8 failed to put the number
on its block list, so only this product remembers the request."""


REACHED = frozenset(
    {SessionStatus.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED, SessionStatus.COMPLETED_UNSUB_ERROR}
)
"""The person called answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeEntry:
    """One code of a table.

    `meaning` is a clause, `remedy` a sentence for people (empty when there is nothing to do). `found_before_sending`:
    the body alone shows it. `is_permanent`: the same request, sent again, would fail again.
    """

    code: int
    meaning: str
    remedy: str = ""
    found_before_sending: bool = False
    is_permanent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEntry:
    """One status of a session.

    `was_reached`: the call was answered. `is_permanent`: calling again would not help, or is not allowed.
    """

    status: SessionStatus
    meaning: str
    remedy: str = ""
    was_reached: bool = False
    is_permanent: bool = False


CREATED = 1
SESSION_VALIDITY_EXPIRED = -2007
UNKNOWN_ERROR = -9999


def _body(code: int, meaning: str, remedy: str) -> CodeEntry:
    """A code for an invalid body: it can be found before sending, and is permanent."""
    return CodeEntry(code=code, meaning=meaning, remedy=remedy, found_before_sending=True, is_permanent=True)


def _by_code(*entries: CodeEntry) -> Mapping[int, CodeEntry]:
    return MappingProxyType({entry.code: entry for entry in entries})


API_CODES = _by_code(
    CodeEntry(code=CREATED, meaning="created: the session was accepted, not answered yet"),
    _body(-1001, "invalid JSON request body", f"Send one JSON object; {Remedy.VALIDATE} to find the line and column."),
    CodeEntry(
        code=-1002,
        meaning="speech profile or language parameter invalid",
        remedy=f"{Remedy.LIST_VOICES.sentence}.",
        is_permanent=True,
    ),
    _body(-1003, "valid maxDigits required when minDigits provided", "Add maxDigits, not less than minDigits."),
    CodeEntry(
        code=-1004,
        meaning="DTMF callback url not provided",
        remedy="Register a VCA webhook for the sub-account, so that key presses have somewhere to go.",
        is_permanent=True,
    ),
    _body(
        -1005, "valid overallTimeout is required when digitTimeout provided", "Add an overallTimeout that is longer."
    ),
    _body(-1006, "overallTimeout should be greater than digitTimeout", "Make overallTimeout the longer one."),
    _body(-1007, "invalid action type", "Use makeCall, say, playFile, sayAndCapture or hangup, spelled so."),
    _body(-1008, "valid maxDigits is required when completeOnHash is false", "Add maxDigits from 1 to 25."),
    _body(-1009, "invalid call flow entry", "Correct the parameter at the path in the message."),
    _body(-1010, "some actions are provided beyond the allowed count", "Keep at most two makeCall."),
    _body(-1011, "multiple destination phone numbers found", "Give one destination; place one call to each number."),
    _body(-1012, "incorrect use of action hangup", "Make hangup the last action, without params."),
    _body(-1013, "first action should be makeCall", "Begin the callflow with makeCall."),
    CodeEntry(
        code=-1014,
        meaning="source or caller ID is not allowed",
        remedy=f"{Remedy.LIST_NUMBERS.sentence}, or ask 8x8 to allow this one.",
        is_permanent=True,
    ),
    CodeEntry(
        code=VALIDITY_EXPIRED,
        meaning="the validity period of the request has expired",
        remedy="Give a later validUntil; if it lay ahead, check this machine's clock.",
        found_before_sending=True,
    ),
    CodeEntry(
        code=-1016,
        meaning="some special characters are invalid or not accepted",
        remedy="Remove control characters, emoji and markup from the texts.",
        is_permanent=True,
    ),
    _body(-1017, "invalid MSISDN format in destination", "Write the country code and the number, such as +6587654321."),
    _body(-1018, "executeScenario cannot be processed together with other actions", "Write its actions out."),
    _body(-1019, "scenarioName is null or empty", "Write the scenario's actions out."),
    CodeEntry(
        code=-1020,
        meaning="the scenario does not exist, or the account may not use it",
        remedy="Write the scenario's actions out.",
        is_permanent=True,
    ),
    CodeEntry(
        code=UNKNOWN_ERROR,
        meaning="an unknown error has occurred at 8x8",
        remedy="The call may have been placed: look for its summary or in the log export before calling again.",
    ),
)

_OUTAGE = "Call again later; contact 8x8 support if it persists."
SESSION_ERROR_CODES = _by_code(
    CodeEntry(code=-2001, meaning="internal error at 8x8", remedy=_OUTAGE),
    CodeEntry(code=-2002, meaning="internal connectivity error at 8x8", remedy=_OUTAGE),
    CodeEntry(
        code=-2003,
        meaning="the call flow is invalid",
        remedy=f"{Remedy.VALIDATE.sentence}, and the answers to call action events.",
        is_permanent=True,
    ),
    CodeEntry(
        code=-2004,
        meaning="no coverage for this destination",
        remedy="Ask 8x8 to open the destination's country or network for the account.",
        is_permanent=True,
    ),
    CodeEntry(
        code=-2005,
        meaning="speech synthesis failed",
        remedy="Check that the text suits the language of the voiceProfile; call again later.",
    ),
    CodeEntry(
        code=-2006,
        meaning="the audio file could not be downloaded",
        remedy=f"Check that fileUrl is public, wav or mp3, and under 5 MB: {Remedy.VALIDATE_AUDIO}.",
    ),
    CodeEntry(
        code=SESSION_VALIDITY_EXPIRED,
        meaning="the validity period expired before the call was made",
        remedy="Give a later validUntil, or send at a lower rate.",
    ),
    CodeEntry(
        code=-2008,
        meaning="the source is not on the account's allow list",
        remedy=f"{Remedy.LIST_NUMBERS.sentence}, or ask 8x8 to allow this one.",
        is_permanent=True,
    ),
    CodeEntry(
        code=-2009,
        meaning="the scenario's parameters are invalid",
        remedy="Write the scenario's actions out.",
        is_permanent=True,
    ),
    CodeEntry(
        code=-2010,
        meaning="the trunk's capacity is exceeded",
        remedy=f"{Remedy.LOWER_RATE.sentence}, or ask 8x8 for more channels; call again later.",
    ),
    CodeEntry(code=UNKNOWN_ERROR, meaning="an unknown error has occurred at 8x8", remedy="Call again later."),
)

SESSION_STATUSES: Mapping[SessionStatus, StatusEntry] = MappingProxyType(
    {
        entry.status: entry
        for entry in (
            StatusEntry(status=SessionStatus.COMPLETED, meaning="answered, and ended in order", was_reached=True),
            StatusEntry(
                status=SessionStatus.NO_ANSWER,
                meaning="it rang and nobody answered",
                remedy="Call again at another time of day.",
            ),
            StatusEntry(
                status=SessionStatus.BUSY,
                meaning="the line was busy, or the call was declined",
                remedy="Call again later.",
            ),
            StatusEntry(
                status=SessionStatus.CANCELED,
                meaning="the call was cancelled before it was answered",
                remedy="Call again, unless it was cancelled on purpose.",
            ),
            StatusEntry(
                status=SessionStatus.FAILED,
                meaning="the call could not be connected",
                remedy="Check that the number exists; the error code of the summary says more.",
            ),
            StatusEntry(
                status=SessionStatus.ERROR,
                meaning="8x8 could not run the call flow",
                remedy="The error code of the summary says why.",
            ),
            StatusEntry(
                status=SessionStatus.COMPLETED_UNSUBSCRIBED,
                meaning="answered, and the person asked not to be called any more",
                remedy="Do not call this number again; 8x8 has put it on the block list.",
                was_reached=True,
                is_permanent=True,
            ),
            StatusEntry(
                status=SessionStatus.COMPLETED_UNSUB_ERROR,
                meaning="answered, and the person asked not to be called any more, but 8x8 could not record it",
                remedy="Do not call this number again; put it on your own suppression list.",
                was_reached=True,
                is_permanent=True,
            ),
            StatusEntry(
                status=SessionStatus.UNSUBSCRIBED_CONTACT,
                meaning="not called: the number is on the block list",
                remedy="Do not call this number again, unless the person asks for it.",
                is_permanent=True,
            ),
        )
    }
)

_BY_SPELLING = {status.value.replace("_", ""): status for status in SessionStatus} | {
    "CANCELLED": SessionStatus.CANCELED,  # the service spells it both ways
}


def fold_session_status(spelling: object) -> SessionStatus | None:
    """The status that a spelling stands for: `NO ANSWER`, `no-answer`, `CANCELLED`; None for one that is not known."""
    if not isinstance(spelling, str):
        return None
    letters = "".join(filter(str.isalnum, spelling[:64])).upper()
    return _BY_SPELLING.get(letters)


def api_code(code: int) -> CodeEntry:
    """The meaning of a statusCode in an answer to a request. An unknown code has an entry that says so."""
    return API_CODES.get(code) or _unknown(code)


def session_error(code: int) -> CodeEntry:
    """The meaning of an errorCode in a session summary. An unknown code has an entry that says so."""
    return SESSION_ERROR_CODES.get(code) or _unknown(code)


def session_status(status: SessionStatus) -> StatusEntry:
    """The meaning of a session status."""
    return SESSION_STATUSES[status]


def _unknown(code: int) -> CodeEntry:
    return CodeEntry(
        code=code,
        meaning=f"code {code}, which the 8x8 documents of this version do not name",
        remedy="Look it up in the 8x8 documents, or ask 8x8 support.",
    )
