"""The result of a bridge: whether the other party was reached."""

from __future__ import annotations

from enum import StrEnum

from voiceflow_worker.model.reports.events import CallAction
from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status

# SIP responses of RFC 3261 §21.
_BUSY = frozenset({486, 600})
_NO_ANSWER = frozenset({408, 480, 487})


class BridgeResult(StrEnum):
    """The result of calling the other party."""

    DONE = "done"
    """The party was reached. This is also the result if the event reports no failure."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    FAILED = "failed"
    """The party could not be called."""


def bridge_result(event: CallAction) -> BridgeResult:
    """The result that an event after a bridge reports, by its status, else by its SIP code."""
    match fold_session_status(event.status_text):
        case SessionStatus.BUSY:
            return BridgeResult.BUSY
        case SessionStatus.NO_ANSWER | SessionStatus.CANCELED:
            return BridgeResult.NO_ANSWER
        case SessionStatus.FAILED | SessionStatus.ERROR:
            return BridgeResult.FAILED
        case _:
            pass
    code = event.sip_code
    if code is None or code < 400:
        return BridgeResult.DONE
    if code in _BUSY:
        return BridgeResult.BUSY
    return BridgeResult.NO_ANSWER if code in _NO_ANSWER else BridgeResult.FAILED
