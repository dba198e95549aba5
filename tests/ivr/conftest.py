"""A store for the tests of menus, opened twice: as two receivers have it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from voiceflow_worker import Store, open_store


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[tuple[Store, Store]]:
    """One store as two receivers on two hosts have it open."""
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with open_store(url) as first, open_store(url) as second:
        yield first, second


@pytest.fixture
def store(stores: tuple[Store, Store]) -> Store:
    return stores[0]
