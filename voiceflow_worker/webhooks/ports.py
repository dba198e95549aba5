"""Objects that an app can hand to the receiver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.model.reports.events import CallAction, CallStatus, NumberUpdate, RecordingReady, SessionSummary


class SettlesSummaries(Protocol):
    """The settler of session summaries (VSS), such as `core.settling.settle.Settler`."""

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        """Settle the call of a summary; repeating it is harmless. A StoreError makes the sender repeat it."""
        ...


OtherEvent: TypeAlias = CallAction | CallStatus | RecordingReady | NumberUpdate
"""A known event other than a summary."""

EventAnswer: TypeAlias = Mapping[str, object] | bytes | None
"""The JSON body to answer an event with: an object, or bytes as they are; None for the usual one."""

AnswersEvents: TypeAlias = Callable[[OtherEvent], Awaitable[EventAnswer]]
"""A handler of events other than summaries. A StoreError that it raises is answered with 503."""
