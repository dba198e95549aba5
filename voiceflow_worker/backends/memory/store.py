"""The memory store: its three ports and its clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from voiceflow_worker.backends.memory.control import MemoryControl
from voiceflow_worker.backends.memory.jobs import MemoryJobs
from voiceflow_worker.backends.memory.records import MemoryRecords
from voiceflow_worker.backends.memory.state import SharedState
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.core.ports.clock import SystemClock


class MemoryStore:
    """A store in memory. It need not be opened or closed.

    Use it from one event loop. Its jobs are lost when the process ends, so use another store for calls that matter.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        state = SharedState()
        self.url = "memory://"
        self.clock: Clock = SystemClock() if clock is None else clock
        self.control = MemoryControl(state)
        self.jobs = MemoryJobs(self.control, state, self.clock)
        self.records = MemoryRecords(state)


@asynccontextmanager
async def open_memory(url: str, *, clock: Clock | None = None) -> AsyncGenerator[MemoryStore]:  # noqa: ARG001 - an Opener is given its URL
    """Open a new, empty store in memory."""
    yield MemoryStore(clock=clock)
