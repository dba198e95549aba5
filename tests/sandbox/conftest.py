from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.sandbox.calling import Caller, calling
from voiceflow_worker.sandbox import Sandbox


@pytest.fixture(scope="module")
async def running(anyio_backend: str) -> AsyncIterator[Caller]:
    """One sandbox as it comes for the tests of a module: starting and stopping one takes longer than most tests."""
    async with calling(Sandbox()) as caller:
        yield caller


@pytest.fixture
async def caller(running: Caller) -> Caller:
    """That sandbox, as if begun anew."""
    await running.order("reset", {})
    return running
