"""A store in memory, opened by `shelf://name`. It lasts until the process ends.

This is an example of a third-party backend. It uses the memory store of voiceflow-worker. A real backend implements the
protocols `Jobs`, `Control` and `Records`, and the nine methods of `core/store_port.py`, with its own driver.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.ports import Clock, Control, Jobs, Records
from voiceflow_worker.core.store_port import Store as Domain
from voiceflow_worker.errors import StoreUnavailableError

_shelf: dict[str, MemoryStore] = {}


@dataclass(frozen=True)
class ShelfStore:
    """One open store, with the members of the protocol `Store`."""

    url: str
    jobs: Jobs
    control: Control
    records: Records
    clock: Clock
    domain: Domain


@asynccontextmanager
async def open_shelf(url: str, *, clock: Clock | None = None) -> AsyncGenerator[ShelfStore]:
    """Open the store of a URL. Nothing is opened before the context is entered.

    `clock` replaces the clock of a new store. Raises StoreUnavailableError for a URL without a name.
    """
    name = urlsplit(url).netloc
    if not name:
        raise StoreUnavailableError(f"{url!r} has no name: write shelf://name")
    kept = _shelf.setdefault(name, MemoryStore(clock=clock))
    yield ShelfStore(url, kept.jobs, kept.control, kept.records, kept.clock, kept.domain)
