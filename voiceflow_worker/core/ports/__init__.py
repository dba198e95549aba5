"""Ports of the engine (stores, clocks, voices), and what uses them: record sets, leases, batching, retries."""

from __future__ import annotations

from voiceflow_worker.core.ports.outside import CallLog as CallLog
from voiceflow_worker.core.ports.outside import Placement as Placement
from voiceflow_worker.core.ports.outside import Voice as Voice
from voiceflow_worker.core.ports.store import Clock as Clock
from voiceflow_worker.core.ports.store import Event as Event
from voiceflow_worker.core.ports.store import EventKind as EventKind
from voiceflow_worker.core.ports.store import Limits as Limits
from voiceflow_worker.core.ports.store import Order as Order
from voiceflow_worker.core.ports.store import Query as Query
from voiceflow_worker.core.ports.store import Slots as Slots
from voiceflow_worker.core.ports.store import Store as Store
