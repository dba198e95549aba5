"""The memory store: its three ports and its clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from voiceflow_worker.backends.memory.control import MemoryControl
from voiceflow_worker.backends.memory.jobs import MemoryJobs
from voiceflow_worker.backends.memory.records import MemoryRecords
from voiceflow_worker.backends.memory.reference import MemoryDomain
from voiceflow_worker.core.ports import Clock


class MemoryStore:
    """A store in memory. It need not be opened or closed.

    Use it from one event loop. Its jobs are lost when the process ends, so use another store for calls that matter.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.url = "memory://"
        self.domain = MemoryDomain(clock=clock)
        self.clock: Clock = self.domain.clock
        self.control = MemoryControl(self.domain)
        self.jobs = MemoryJobs(self.domain)
        self.records = MemoryRecords(self.domain)


@asynccontextmanager
async def open_memory(url: str, *, clock: Clock | None = None) -> AsyncGenerator[MemoryStore]:  # noqa: ARG001 - an Opener is given its URL
    """Open a new, empty store in memory."""
    yield MemoryStore(clock=clock)
