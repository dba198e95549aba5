"""Backends, on the event loop that gives the gateway its way to POST: asyncio (our connections) or trio (httpx)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.stores import EVERY, SERVERS
from voiceflow_worker import open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.core.ports import Store

BACKENDS = tuple(f"{backend}-asyncio" for backend in EVERY)
ON_TRIO = ("memory-trio", "sqlite-trio")


@dataclass(frozen=True)
class Ground:
    """An opened store, and the journal files that the command line would give its workers."""

    store: Store
    local_journal: JournalFiles | None


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """A backend and an event loop."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop."""
    return backend.partition("-")[2]


@pytest.fixture
async def ground(backend: str, fresh_url: Callable[[str], str], tmp_path: Path) -> AsyncGenerator[Ground]:
    """A fresh store of this backend."""
    kind = backend.partition("-")[0]
    local_journal = JournalFiles(tmp_path / "journals") if kind in SERVERS else None
    async with open_store(fresh_url(kind)) as store:
        yield Ground(store, local_journal)
