"""What the receiver asks of the rest: who settles summaries, who answers other events, who hears that it listens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from voiceflow_worker.core.settle import SummaryResult
from voiceflow_worker.model.events import CallAction, CallStatus, NumberUpdate, RecordingReady, SessionSummary


class SettlesSummaries(Protocol):
    """Takes session summaries (VSS); `core.settle.Settler` does."""

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        """Settle the call that a summary is about; the same one again is harmless.

        Raises StoreError when it could not be stored: the sender is then told to come again.
        """
        ...


class TellsPresence(Protocol):
    """Tells others that a receiver listens; `core.heartbeat.Heartbeats` does."""

    async def receiver(self, name: str) -> None:
        """A receiver listens. Raises StoreError."""
        ...

    async def receiver_left(self, name: str) -> None:
        """A receiver has stopped. Raises StoreError."""
        ...


OtherEvent: TypeAlias = CallAction | CallStatus | RecordingReady | NumberUpdate
"""A known event that is no summary."""

EventAnswer: TypeAlias = Mapping[str, object] | bytes | None
"""The JSON body to answer an event with: an object, or bytes as they are; None for the usual one."""

AnswersEvents: TypeAlias = Callable[[OtherEvent], Awaitable[EventAnswer]]
"""Takes an event that is no summary. Raises StoreError when it could not be stored: it is answered with 503."""
