"""Ports of the engine, and trips through them: stores, identity, batching of commits, retries, turns."""

from __future__ import annotations

from voiceflow_worker.core.ports.store import (
    CallLog,
    Clock,
    Control,
    Enqueued,
    Event,
    EventKind,
    Jobs,
    KeyOwner,
    Limits,
    Move,
    Order,
    Placement,
    Query,
    Records,
    Restartable,
    Slots,
    Store,
    Voice,
)

__all__ = [
    "CallLog",
    "Clock",
    "Control",
    "Enqueued",
    "Event",
    "EventKind",
    "Jobs",
    "KeyOwner",
    "Limits",
    "Move",
    "Order",
    "Placement",
    "Query",
    "Records",
    "Restartable",
    "Slots",
    "Store",
    "Voice",
]
