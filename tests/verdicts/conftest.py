"""Backends, on the event loop that gives the gateway its way to POST: asyncio (our connections) or trio (httpx)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, standalone
from voiceflow_worker import open_store
from voiceflow_worker.backends.witness import JournalFiles
from voiceflow_worker.core.ports import Store

BACKENDS = ("memory-asyncio", "sqlite-asyncio", "redis-asyncio")
ON_TRIO = ("memory-trio", "sqlite-trio")


@dataclass(frozen=True)
class Ground:
    """An opened store, and the journal files that the command line would give its workers."""

    store: Store
    witness: JournalFiles | None


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """A backend and an event loop."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def anyio_backend(backend: str) -> str:
    """The event loop."""
    return backend.partition("-")[2]


@pytest.fixture(scope="session")
def verdict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests here; each has a prefix of its own in it."""
    server = standalone(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
async def ground(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Ground]:
    """A fresh store of this backend."""
    kind = backend.partition("-")[0]
    witness = None
    match kind:
        case "memory":
            url = "memory://"
        case "sqlite":
            url = f"sqlite:///{tmp_path / 'calls.db'}"
        case _:
            server: RedisServer = request.getfixturevalue("verdict_server")
            server.ask("FLUSHALL")
            url, witness = server.url, JournalFiles(tmp_path / "journals")
    async with open_store(url) as store:
        yield Ground(store, witness)
