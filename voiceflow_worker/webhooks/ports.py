"""Protocols of the objects that the receiver uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.model.reports.events import CallAction, CallStatus, NumberUpdate, RecordingReady, SessionSummary
from voiceflow_worker.webhooks.kept_events import OddEvent


class SettlesSummaries(Protocol):
    """Takes session summaries (VSS); `core.settling.settle.Settler` does."""

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        """Settle the call that a summary is about; the same one again is harmless.

        Raises StoreError when it could not be stored: the sender is then asked to repeat it.
        """
        ...


class KeepsProgress(Protocol):
    """Stores events about a call other than its summary (VCS, VRU); `core.events.progress.CallProgress` does.

    The same event again is harmless. False: it names no session, and cannot be found again. Raises StoreError when it
    could not be stored.
    """

    async def status(self, event: CallStatus) -> bool:
        """A leg has changed its state."""
        ...

    async def recording(self, event: RecordingReady) -> bool:
        """A recording has changed its state."""
        ...

    async def numbers(self, event: NumberUpdate) -> None:
        """Keep which numbers of the account are not Active (VNU)."""
        ...


class KeepsOddEvents(Protocol):
    """Keeps what could not be understood, for people to look at; `webhooks.kept_events.KeptEvents` does."""

    async def keep(self, odd: OddEvent) -> bool:
        """Keep an event. Raises StoreError; nothing is lost by it but the look."""
        ...


class TellsPresence(Protocol):
    """Tells others that a receiver listens; `core.overview.heartbeat.Heartbeats` does."""

    async def receiver(self, name: str) -> None:
        """A receiver listens. Raises StoreError."""
        ...

    async def receiver_left(self, name: str) -> None:
        """A receiver has stopped. Raises StoreError."""
        ...


OtherEvent: TypeAlias = CallAction | CallStatus | RecordingReady | NumberUpdate
"""A known event other than a summary."""

EventAnswer: TypeAlias = Mapping[str, object] | bytes | None
"""The JSON body to answer an event with: an object, or bytes as they are; None for the usual one."""

AnswersEvents: TypeAlias = Callable[[OtherEvent], Awaitable[EventAnswer]]
"""Handles an event other than a summary. Raises StoreError when it could not be stored: it is answered with 503."""
