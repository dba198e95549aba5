"""Engine tests run on every backend, with a clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.stores import BACKENDS, url_for
from voiceflow_worker import open_store
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.core.ports import Store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=BACKENDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with open_store(url_for(request.param, tmp_path), clock=clock) as opened:
        yield opened
