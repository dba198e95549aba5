"""The webhook receiver: an ASGI app that authenticates events of 8x8, stores them and answers quickly."""

from __future__ import annotations

from voiceflow_worker.webhooks.app import PATH, receiver_app, webhook_app
from voiceflow_worker.webhooks.kept_events import KeptEvent, KeptEvents, KeptLabel, OddEvent, OddReason
from voiceflow_worker.webhooks.ports import (
    EventAnswer,
    KeepsOddEvents,
    KeepsProgress,
    SettlesSummaries,
    TellsPresence,
)
from voiceflow_worker.webhooks.presence import present
from voiceflow_worker.webhooks.readiness import Probe, store_probe

__all__ = [
    "PATH",
    "EventAnswer",
    "KeepsOddEvents",
    "KeepsProgress",
    "KeptEvent",
    "KeptEvents",
    "KeptLabel",
    "OddEvent",
    "OddReason",
    "Probe",
    "SettlesSummaries",
    "TellsPresence",
    "present",
    "receiver_app",
    "store_probe",
    "webhook_app",
]
