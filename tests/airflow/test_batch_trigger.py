"""The trigger for `AssetWatcher`: one event for each finished batch, also over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import pytest

from tests.airflow.scene import surroundings
from tests.support.flows import flow
from tests.support.stage import Stage
from tests.support.waiting import until
from voiceflow_worker import CallQueue, Store, open_store

batch = pytest.importorskip("airflow_provider.triggers.batch", exc_type=ImportError, reason="Airflow 3 brought it")
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with surroundings(tmp_path_factory.mktemp("batches")) as staged:
        yield staged


@pytest.fixture
async def store(on: Stage) -> AsyncIterator[Store]:
    async with open_store(on.store) as opened:
        yield opened


class Watching:
    """A triggerer's life of one trigger; its events are kept."""

    def __init__(self, watcher: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._trigger = batch.VoiceBatchTrigger(watcher=watcher, poll_interval=0.1, quiet_for=0.3)

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        await asyncio.sleep(0.5)  # its first look, of which no event tells
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.wait({self._running})

    async def _run(self) -> None:
        async for event in self._trigger.run():
            self.events.append(event.payload)

    async def batches(self, count: int) -> list[str]:
        await until(lambda: len(self.events) >= count)
        await asyncio.sleep(1)  # more looks of the trigger, which must not fire again; no event says that it did not
        return [each["batch_id"] for each in self.events]


async def ended(store: Store, batch_id: str, *numbers: str) -> None:
    """A batch whose calls have all ended."""
    queue = CallQueue(store)
    for number in numbers:
        job = await queue.enqueue(flow(number), batch_id=batch_id)
        await queue.cancel(job.id)


async def test_each_finished_batch_is_reported_once(store: Store) -> None:
    await ended(store, "before-the-watch", "+6587667001")
    async with Watching("one") as watching:
        await ended(store, "first", "+6587667002", "+6587667003")
        assert await watching.batches(1) == ["first"]
        assert watching.events[0] == {
            "batch_id": "first",
            "queue": "default",
            "total": 2,
            "states": {"cancelled": 2},
        }
        await ended(store, "second", "+6587667004")
        assert await watching.batches(2) == ["first", "second"]


async def test_a_triggerer_that_is_started_again_goes_on_where_the_last_one_was(store: Store) -> None:
    async with Watching("restarted") as watching:
        await ended(store, "first-batch", "+6587667005")
        assert await watching.batches(1) == ["first-batch"]
    await ended(store, "while-away", "+6587667006")
    async with Watching("restarted") as watching:
        assert await watching.batches(1) == ["while-away"]


async def test_a_batch_that_goes_on_is_not_reported(store: Store) -> None:
    async with Watching("open") as watching:
        queue = CallQueue(store)
        waiting = await queue.enqueue(flow("+6587667007"), batch_id="open")
        await ended(store, "open", "+6587667008")
        await asyncio.sleep(1)  # several looks of the trigger, which must not fire; no event says that it did not
        assert watching.events == []
        await queue.cancel(waiting.id)
        assert await watching.batches(1) == ["open"]


async def test_watchers_have_cursors_of_their_own(store: Store) -> None:
    async with Watching("a") as one, Watching("b") as other:
        await ended(store, "both", "+6587667009")
        assert await one.batches(1) == await other.batches(1) == ["both"]


async def test_it_is_made_again_from_what_it_serializes() -> None:
    first = batch.VoiceBatchTrigger(watcher="w", batch_prefix="p")
    _, kwargs = first.serialize()
    assert batch.VoiceBatchTrigger(**kwargs).serialize() == first.serialize()
