"""The laboratory's fixtures: one zygote for all tests of a module, one store for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.children import Children, zygote
from tests.crash.laboratory import Laboratory
from tests.support.redis_server import standalone

DURABLE = ["sqlite", "redis"]
"""The backends that outlive a process. A new one is a line here and one in `store_url`."""


@pytest.fixture(scope="session")
def children() -> Iterator[Children]:
    with zygote() as born:
        yield born


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = standalone(tmp_path_factory.mktemp("redis")).start()
    yield server.url
    server.kill()


@pytest.fixture(params=DURABLE)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'calls.db'}"
        case "redis":
            url: str = request.getfixturevalue("redis_url")
            return f"{url}?prefix={tmp_path.name}"
        case backend:
            raise ValueError(backend)


@pytest.fixture
def lab(children: Children, store_url: str, tmp_path: Path) -> Iterator[Laboratory]:
    with Laboratory(children, store_url, tmp_path).running() as running:
        yield running
