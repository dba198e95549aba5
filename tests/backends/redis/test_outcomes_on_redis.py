"""Outcomes for programs on a real Redis: the very tests that run on memory and SQLite."""

# ruff: noqa: F403 - every test of these modules, and whatever is added to them

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.core.test_hooks import *
from tests.core.test_outcome_wait import *
from tests.core.test_outcomes import *
from tests.support.redis_server import RedisServer
from voiceflow_worker import open_store
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.core.ports import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(redis_server: RedisServer, clock: ManualClock) -> AsyncIterator[Store]:
    async with open_store(redis_server.url, clock=clock) as opened:
        yield opened
