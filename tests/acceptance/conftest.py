"""Stores for whole runs with real processes."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, standalone


@pytest.fixture
def own_server(tmp_path: Path) -> Generator[RedisServer]:
    """A Redis for one test, which may kill it."""
    server = standalone(tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh store of each kind that several processes can share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'calls.db'}"
    server: RedisServer = request.getfixturevalue("own_server")
    return server.url
