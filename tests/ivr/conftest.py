"""A store for the tests of menus, opened twice: as two receivers have it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, standalone
from tests.support.stores import url_for
from voiceflow_worker import Store, open_store


@pytest.fixture(scope="session")
def redis_of_menus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = standalone(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def store_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if backend != "redis":
        return url_for(backend, tmp_path)
    server: RedisServer = request.getfixturevalue("redis_of_menus")
    server.ask("FLUSHALL")
    return server.url


@pytest.fixture
async def stores(store_url: str, backend: str) -> AsyncIterator[tuple[Store, Store]]:
    """One store as two receivers on two hosts have it open; memory is opened once, for it is not shared."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_store(store_url))
        second = first if backend == "memory" else await stack.enter_async_context(open_store(store_url))
        yield first, second


@pytest.fixture
def store(stores: tuple[Store, Store]) -> Store:
    return stores[0]
