"""A store in a file, opened by `shelf://name` (`name.shelf` in the working directory) or `shelf:///path`.

This is an example of a third-party backend: the rules of the memory store of voiceflow-worker, on contents that several
processes share. Each change reads the file, and writes it whole. A real backend implements the nine methods of
`core/ports/store.py` with its own driver.
"""

from __future__ import annotations

import fcntl
import os
import pickle
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.memory.store import Memory, MemoryStore
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.core.ports.store import BulkWrite, WriteResult
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.job import Job

LOOK_EVERY = 0.02
"""Seconds between two looks of `wait` for changes of other processes."""


class ShelfStore(MemoryStore):
    """One open store, with the nine methods of the protocol `Store`."""

    def __init__(self, url: str, path: Path, *, clock: Clock | None) -> None:
        self._path = path
        self._contents = Memory()
        self._stamp: tuple[int, int] | None = None
        super().__init__(clock=clock)
        self.url = url

    @property
    def memory(self) -> Memory:
        """Contents of the file, which is read again if another process has written it."""
        with suppress(FileNotFoundError):
            found = self._path.stat()
            if self._stamp != (found.st_ino, found.st_mtime_ns):
                state = pickle.loads(self._path.read_bytes())  # noqa: S301 - our own file
                self._contents = Memory()
                vars(self._contents).update(state, changes=defaultdict(lambda: 1, state["changes"]))
                self._stamp = (found.st_ino, found.st_mtime_ns)
        return self._contents

    @memory.setter
    def memory(self, _: Memory) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - read each time
        """Make the file if there is none: the memory store begins with empty contents."""
        with self._changing():
            pass

    @contextmanager
    def _changing(self) -> Generator[Memory]:
        """Yield the contents, and write them when the block has ended. Nothing is awaited within the block."""
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # without this line, processes overwrite each other's changes
            contents, self._stamp = self.memory, None  # what an error leaves half changed is read again
            yield contents
            state = {name: value for name, value in vars(contents).items() if name != "wakeups"}
            new = self._path.with_suffix(f".{os.getpid()}")
            with new.open("wb") as file:
                pickle.dump({**state, "changes": dict(contents.changes)}, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        """Carry out a bulk write."""
        await checkpoint()
        with self._changing() as memory:
            return memory.write(bulk, now)

    async def lease(
        self, queue: str, *, worker_id: str, limit: int, until: datetime, now: datetime, batch: str | None = None
    ) -> Sequence[Job]:
        """Take due jobs for a worker."""
        await checkpoint()
        with self._changing() as memory:
            return memory.lease(queue, worker_id=worker_id, limit=limit, until=until, now=now, batch=batch)

    async def prune(self, queue: str, *, now: datetime, events_before: datetime, limit: int) -> int:
        """Delete what has expired."""
        await checkpoint()
        with self._changing() as memory:
            return memory.prune(queue, now, events_before, limit)

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Wait until the queue changes: other processes cannot wake this one, so it looks again and again."""
        await checkpoint()
        while (count := self.memory.changes[queue]) == seen and self.clock.now() < until:  # noqa: ASYNC110
            await anyio.sleep(LOOK_EVERY)
        return count


@asynccontextmanager
async def open_shelf(url: str, *, clock: Clock | None = None) -> AsyncGenerator[ShelfStore]:
    """Open the store of a URL. Nothing is opened before the context is entered.

    `clock` replaces the clock of the store. Raises StoreUnavailableError for a URL without a name.
    """
    parts = urlsplit(url)
    if not (name := parts.netloc + parts.path):
        raise StoreUnavailableError(f"{url!r} has no name: write shelf://name")
    yield ShelfStore(url, Path(f"{name}.shelf"), clock=clock)
