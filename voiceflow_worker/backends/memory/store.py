"""The memory store: its three ports and its clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from voiceflow_worker.backends.memory.control import MemoryControl
from voiceflow_worker.backends.memory.jobs import MemoryJobs
from voiceflow_worker.backends.memory.records import MemoryRecords
from voiceflow_worker.backends.memory.state import Batches, ChangeCounts, Tombstones
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.core.ports.clock import SystemClock


class MemoryStore:
    """A store in memory. It needs no opening and no closing.

    Use it from one event loop. Nothing survives the process, so it is not for calls that matter.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        changes = ChangeCounts()
        tombstones = Tombstones()
        self.url = "memory://"
        self.clock: Clock = SystemClock() if clock is None else clock
        batches = Batches()
        self.control = MemoryControl(changes, batches)
        self.jobs = MemoryJobs(self.control, changes, tombstones, batches, self.clock)
        self.records = MemoryRecords(tombstones)


@asynccontextmanager
async def open_memory(url: str, *, clock: Clock | None = None) -> AsyncGenerator[MemoryStore]:  # noqa: ARG001 - an Opener is given its URL
    """A new, empty store in memory."""
    yield MemoryStore(clock=clock)
