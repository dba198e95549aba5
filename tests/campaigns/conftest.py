"""A clock that stands still until a test moves it, and a store."""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio.lowlevel
import pytest

from tests.campaigns.reading import NOW
from tests.support.stores import EVERY, clocked
from voiceflow_worker import CallQueue
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
        """Pass a short time at once. A task in the background, which sleeps for longer, does not wake up."""
        if seconds >= 1:
            await anyio.sleep_forever()
        self.advance(timedelta(seconds=seconds))
        await anyio.lowlevel.checkpoint()

    def advance(self, by: timedelta) -> None:
        self._now += by


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


OTHERS = [pytest.param(each, marks=pytest.mark.slow) for each in EVERY if each != "sqlite"]
EACH_STORE = pytest.mark.parametrize("store", ["sqlite", *OTHERS], indirect=True)
"""Every day on one store: what each store does with its writes is what its contract is about."""


store = clocked("sqlite")


@pytest.fixture
def queue(store: Store) -> CallQueue:
    return CallQueue(store)
