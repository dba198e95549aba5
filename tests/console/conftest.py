from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Store


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """The URL of an empty store."""
    return f"sqlite:///{tmp_path / 'calls.db'}"


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with open_store(store_url) as opened:
        yield opened


@pytest.fixture
async def memory() -> AsyncIterator[Store]:
    """For what does not depend on the kind of store."""
    async with open_store("memory://") as opened:
        yield opened
