"""Engine tests run on a store in a file, with a clock that stands still until a test moves it.

Where the promise leans on the store (locks, caps, evidence, expiry), they run on every backend: `any_store`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.samples import ManualClock
from tests.support.calls import Calls
from tests.support.engine import ScriptedEngine
from tests.support.stores import EVERY, url_for
from tests.support.voices import ScriptedVoice
from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Store


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with open_store(url_for(request.param, tmp_path), clock=clock) as opened:
        yield opened


@pytest.fixture
def voice() -> ScriptedVoice:
    return ScriptedVoice()


@pytest.fixture
def engine(store: Store, voice: ScriptedVoice, clock: ManualClock) -> ScriptedEngine:
    return ScriptedEngine(store, clock, voice=voice)


@pytest.fixture(params=EVERY)
async def any_store(
    request: pytest.FixtureRequest, fresh_url: Callable[[str], str], clock: ManualClock
) -> AsyncIterator[Store]:
    """A fresh store of every backend."""
    async with open_store(fresh_url(request.param), clock=clock) as opened:
        yield opened


@pytest.fixture
def here(any_store: Store, clock: ManualClock) -> ScriptedEngine:
    """The default queue on a store of every backend."""
    return ScriptedEngine(any_store, clock)


@pytest.fixture
def there(here: ScriptedEngine) -> ScriptedEngine:
    """Another queue of the same store, with the same voice."""
    return ScriptedEngine(here.store, here.clock, voice=here.voice, queue="offers")


@pytest.fixture
def calls(store: Store) -> Calls:
    return Calls(store)
