from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Store


@pytest.fixture
def store_url(request: pytest.FixtureRequest, fresh_url: Callable[[str], str]) -> str:
    """The URL of an empty store: in a file, unless the test names other backends."""
    return fresh_url(getattr(request, "param", "sqlite"))


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with open_store(store_url) as opened:
        yield opened


@pytest.fixture
async def memory() -> AsyncIterator[Store]:
    """For what does not depend on the kind of store."""
    async with open_store("memory://") as opened:
        yield opened
