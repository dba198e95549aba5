"""A store in memory, opened by `shelf://name`. It lasts until the process ends.

This is an example of a third-party backend. It is the memory store of voiceflow-worker under another URL. A real
backend implements the nine methods of `core/ports/store.py` with its own driver.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.errors import StoreUnavailableError

_shelf: dict[str, ShelfStore] = {}


class ShelfStore(MemoryStore):
    """One open store, with the nine methods of the protocol `Store`."""

    def __init__(self, url: str, *, clock: Clock | None) -> None:
        super().__init__(clock=clock)
        self.url = url


@asynccontextmanager
async def open_shelf(url: str, *, clock: Clock | None = None) -> AsyncGenerator[ShelfStore]:
    """Open the store of a URL. Nothing is opened before the context is entered.

    `clock` replaces the clock of a new store. Raises StoreUnavailableError for a URL without a name.
    """
    name = urlsplit(url).netloc
    if not name:
        raise StoreUnavailableError(f"{url!r} has no name: write shelf://name")
    yield _shelf.setdefault(name, ShelfStore(url, clock=clock))
