"""Stores in which something was written by a newer version."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import orjson
import pytest

from tests.support.redis_server import RedisServer, standalone
from voiceflow_worker import Job, Store, open_store
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.backends.record import record_of
from voiceflow_worker.backends.redis.connection import codec
from voiceflow_worker.backends.sqlite import writes

NEWER = frozenset({"+6599999999"})
"""Jobs to this number are written as a newer version would: with a field that this one does not know."""


@pytest.fixture(scope="session")
def versions_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = standalone(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'calls.db'}"
    server: RedisServer = request.getfixturevalue("versions_server")
    server.ask("FLUSHALL")
    return server.url


@pytest.fixture
async def store(url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    written: Callable[[Job], str] = lambda job: (  # noqa: E731
        orjson.dumps({**orjson.loads(record_of(job)), "mood": "sunny"}).decode()
        if job.destination in NEWER
        else record_of(job)
    )
    monkeypatch.setattr(writes, "record_of", written)
    monkeypatch.setattr(codec, "record_of", written)
    async with open_store(url, clock=clock) as opened:
        yield opened


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite store."""
    return f"sqlite:///{tmp_path / 'shared.db'}"


@pytest.fixture
def redis_url(versions_server: RedisServer) -> str:
    """A fresh Redis store."""
    versions_server.ask("FLUSHALL")
    return versions_server.url
