"""The store in memory with the older port beside the nine methods."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.backends.older import OlderControl, OlderJobs, OlderRecords
from voiceflow_worker.core.store_port import Clock


class OlderMemoryStore:
    """A store in memory. It need not be opened or closed.

    Use it from one event loop. Its jobs are lost when the process ends, so use another store for calls that matter.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.domain = MemoryStore(clock=clock)
        self.url, self.clock = self.domain.url, self.domain.clock
        self.jobs = OlderJobs(self.domain)
        self.control = OlderControl(self.domain)
        self.records = _OlderMemoryRecords(self.domain)


class _OlderMemoryRecords(OlderRecords):
    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._memory = store.memory

    def _queues(self) -> Iterable[str]:
        return {"", *(queue for queue, _ in self._memory.tombstones)}


@asynccontextmanager
async def open_memory(url: str, *, clock: Clock | None = None) -> AsyncGenerator[OlderMemoryStore]:  # noqa: ARG001 - an Opener is given its URL
    """Open a new, empty store in memory."""
    yield OlderMemoryStore(clock=clock)
