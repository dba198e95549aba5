"""Stores on a shelf: `shelf://name` is the same store for all who open it in this process, until the process ends.

An example of a backend that does not come with voiceflow-worker. The work is done by the store in memory, which comes
with it; one of your own implements the same three protocols (`Jobs`, `Control`, `Records`) with its own driver.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.ports import Clock, Control, Jobs, Records
from voiceflow_worker.errors import StoreUnavailableError

_shelf: dict[str, MemoryStore] = {}


@dataclass(frozen=True)
class ShelfStore:
    """One store of the shelf, opened: what the port `Store` asks for, and nothing else."""

    url: str
    jobs: Jobs
    control: Control
    records: Records
    clock: Clock


@asynccontextmanager
async def open_shelf(url: str, *, clock: Clock | None = None) -> AsyncGenerator[ShelfStore]:
    """Open the store that the URL names; nothing happens before this is entered.

    `clock` replaces the clock of a store that is new. Raises StoreUnavailableError for a URL that names none.
    """
    name = urlsplit(url).netloc
    if not name:
        raise StoreUnavailableError(f"{url!r} names no store: write shelf://name")
    kept = _shelf.setdefault(name, MemoryStore(clock=clock))
    yield ShelfStore(url, kept.jobs, kept.control, kept.records, kept.clock)
