"""What follows a bridge: the other party was busy, did not answer, or has talked to the caller."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from voiceflow_worker.ivr.steps import END, Handler, Step
from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status

if TYPE_CHECKING:
    from voiceflow_worker.model.reports.events import CallAction

# SIP responses of RFC 3261 §21.
_BUSY = frozenset({486, 600})
_NO_ANSWER = frozenset({408, 480, 487})


class BridgeResult(StrEnum):
    """What became of the other party."""

    DONE = "done"
    """They were reached, or nothing says that they were not."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    FAILED = "failed"
    """They could not be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterBridge:
    """What a menu does after a bridge: a step or a handler for each result, a hang-up where none is given.

    `failed` is what `no_answer` is, unless given. A handler finds the result in `caller.bridge`.
    """

    done: Step | Handler = END
    busy: Step | Handler = END
    no_answer: Step | Handler = END
    failed: Step | Handler | None = None

    def of(self, result: BridgeResult) -> Step | Handler:
        """What follows this result."""
        match result:
            case BridgeResult.DONE:
                return self.done
            case BridgeResult.BUSY:
                return self.busy
            case BridgeResult.NO_ANSWER:
                return self.no_answer
            case BridgeResult.FAILED:
                return self.no_answer if self.failed is None else self.failed


def bridge_result(event: CallAction) -> BridgeResult:
    """What an event that comes after a bridge says of the other party: by its SIP code, else by its status."""
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
