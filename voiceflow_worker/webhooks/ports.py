"""The types of the objects that an app can pass to the receiver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.model.reports.events import CallAction, CallStatus, RecordingReady, SessionSummary


class SettlesSummaries(Protocol):
    """The settler of session summaries (VSS), such as `core.settling.settle.Settler`."""

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        """Settle the call of a summary. The same summary may come several times, for example after a StoreError."""
        ...


OtherEvent: TypeAlias = CallAction | CallStatus | RecordingReady
"""A known event other than a summary."""

EventAnswer: TypeAlias = Mapping[str, object] | bytes | None
"""The JSON body of the answer to an event, as an object or already in bytes. None means the usual answer."""

AnswersEvents: TypeAlias = Callable[[OtherEvent], Awaitable[EventAnswer]]
"""A handler of events other than summaries. If it raises a StoreError, the event is answered with 503."""
