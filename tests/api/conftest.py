"""What the tests of the HTTP API share."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.api.clients import Client, program
from voiceflow_worker import Store


@pytest.fixture
async def client(memory: Store) -> AsyncGenerator[Client]:
    """A program that asks a receiver on a store in memory."""
    async with program(memory) as opened:
        yield opened
