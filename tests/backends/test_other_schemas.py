"""Stores of another schema, which are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.stores import DURABLE, renumber
from voiceflow_worker import open_store
from voiceflow_worker.errors import StoreVersionError

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("backend", DURABLE)]


@pytest.mark.parametrize("change", [-2, -1, 1, 2])
async def test_a_store_of_another_schema_is_refused_each_time(
    backend: str, fresh_url: Callable[[str], str], change: int
) -> None:
    url = fresh_url(backend)
    async with open_store(url) as store:
        await renumber(store, change)
    for _ in range(2):
        with pytest.raises(StoreVersionError, match=r"has schema \d+, .* Use the version that made the store, or"):
            async with open_store(url):
                pass
