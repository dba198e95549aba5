"""A rate that a person sets while workers send: it holds at once, and after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.flows import flow, number
from tests.support.manual_time import passing, passing_beside
from tests.support.voices import ScriptedVoice
from tests.support.workers import NO_WEBHOOKS, enqueued, worker_for
from voiceflow_worker import CallQueue, InvalidInputError, open_store
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import limits_of
from voiceflow_worker.model.text.wording import SLOWEST

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[Store]:
    async with open_store("memory://", clock=clock) as opened:
        yield opened


async def placed_in(
    clock: ManualClock, store: Store, *, given: list[float | None], new: float | None, seconds: float
) -> int:
    """Calls of two workers in the seconds after the one in which the rate was set; all workers stand before that."""
    voice, counted = ScriptedVoice(), 0
    queue = CallQueue(store, policy=NO_WEBHOOKS)
    workers = [worker_for(store, voice, rate=rate) for rate in given]

    async def changed() -> None:
        nonlocal counted
        await clock.sleep(3)
        await queue.set_rate(new)
        await clock.sleep(1.5)
        before = len(voice.placed)
        await clock.sleep(seconds)
        counted = len(voice.placed) - before
        for worker in workers:
            worker.stop()

    await passing_beside(clock, workers, changed)
    return counted


async def test_a_faster_rate_ends_the_long_pauses_of_a_slow_one(clock: ManualClock, store: Store) -> None:
    await enqueued(store, 200)
    counted = await placed_in(clock, store, given=[1 / 600, 1 / 600], new=10, seconds=5)
    assert 45 <= counted <= 52


async def test_a_slower_rate_holds_all_workers_within_a_second(clock: ManualClock, store: Store) -> None:
    await enqueued(store, 500)
    counted = await placed_in(clock, store, given=[20, 20], new=1, seconds=10)
    assert 9 <= counted <= 11


async def test_an_unlimited_worker_keeps_a_rate_that_is_set(clock: ManualClock, store: Store) -> None:
    queue = await enqueued(store, 1)
    voice = ScriptedVoice()
    worker = worker_for(store, voice, rate=None)

    async def changed() -> None:
        await clock.sleep(1)
        await queue.set_rate(2)
        await clock.sleep(1.5)
        before = len(voice.placed)
        for place in range(40):
            await queue.enqueue(flow(number(100 + place)))
        await clock.sleep(5)
        assert 9 <= len(voice.placed) - before <= 12
        worker.stop()

    await passing_beside(clock, [worker], changed)


async def test_a_worker_that_starts_later_keeps_it_until_it_is_reset(clock: ManualClock, store: Store) -> None:
    queue = await enqueued(store, 1)
    await queue.set_rate(5)
    await passing(clock, worker_for(store, ScriptedVoice(), rate=50).drain)
    status = await queue.status()
    assert status.limits is not None
    assert status.limits.rate == 5
    assert await queue.reset_rate()
    assert not await queue.reset_rate()
    await passing(clock, worker_for(store, ScriptedVoice(), rate=50).drain)
    status = await queue.status()
    assert status.limits is not None
    assert status.limits.rate == 50


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan"), 1e-13, 5e-324])
async def test_an_impossible_rate_is_refused(store: Store, rate: float) -> None:
    with pytest.raises(InvalidInputError, match="rate"):
        await CallQueue(store).set_rate(rate)
    assert await limits_of(store, "default") is None


@pytest.mark.parametrize("rate", [0, float("nan"), 1e-13, 5e-324])
async def test_a_worker_with_an_impossible_rate_is_not_made(store: Store, rate: float) -> None:
    with pytest.raises(InvalidInputError, match="sends nothing"):
        worker_for(store, ScriptedVoice(), rate=rate)


async def test_workers_go_on_at_the_slowest_rate_and_after_it(clock: ManualClock, store: Store) -> None:
    voice, queue = ScriptedVoice(), await enqueued(store, 40)
    worker = worker_for(store, voice, rate=10)

    async def changed() -> None:
        await clock.sleep(1)
        await queue.set_rate(SLOWEST)
        await clock.sleep(60)
        slowly.append(len(voice.placed))
        await queue.set_rate(10)
        await clock.sleep(60)
        worker.stop()

    slowly: list[int] = []
    await passing_beside(clock, [worker], changed)
    assert slowly[0] < 40
    assert len(voice.placed) == 40
