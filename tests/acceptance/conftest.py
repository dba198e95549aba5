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
