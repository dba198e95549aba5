"""Ports of the engine to 8x8: a voice that places calls, and the call log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from voiceflow_worker.model.reports.verdict import PostProgress, Verdict

if TYPE_CHECKING:
    from voiceflow_worker.model.jobs.call_log import LoggedCalls  # 20 ms, which most commands do not need


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One POST, ready to leave: the stored body, and the fields that are added to it when it is sent."""

    body: str
    client_request_id: str
    valid_until: datetime


class Voice(Protocol):
    """A gateway that places calls."""

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        """POST one call, once, and return the verdict.

        Never raises for a fault of the network or the service: a result that is not understood is `UNKNOWN`. A
        placement whose validity has ended at `now` is not sent (`NOT_SENT`). Cancellation propagates; `progress` then
        shows whether anything may have left.
        """
        ...


class CallLog(Protocol):
    """The call log of 8x8: evidence for calls in doubt."""

    async def logged_calls(self, *, since: datetime, until: datetime) -> LoggedCalls:
        """The rows that the log has so far for this range of time. A row may come long after its call.

        The request may take minutes. Raises `CallLogError`, and `CallLogUnavailableError` if trying again may help.
        """
        ...
