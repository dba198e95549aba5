"""A clock that stands still until a test moves it, and a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import anyio.lowlevel
import pytest

from tests.campaigns.reading import NOW
from tests.support.redis_server import standalone
from tests.support.stores import url_for
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.core.ports import Store


class StillClock:
    """The time of tests."""

    def __init__(self) -> None:
        self._now = NOW

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - NOW).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.advance(timedelta(seconds=seconds))
        await anyio.lowlevel.checkpoint()

    def advance(self, by: timedelta) -> None:
        self._now += by


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


EACH_STORE = pytest.mark.parametrize("store", ["memory", "sqlite", "redis"], indirect=True)


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: StillClock) -> AsyncIterator[Store]:
    server = standalone(tmp_path).start() if request.param == "redis" else None
    try:
        async with open_store(
            url_for(request.param, tmp_path) if server is None else server.url, clock=clock
        ) as opened:
            yield opened
    finally:
        if server is not None:
            server.kill()


@pytest.fixture
def queue(store: Store) -> CallQueue:
    return CallQueue(store)
