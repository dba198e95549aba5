"""Many callers, one trip: each gets its own answer, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import pytest

from voiceflow_worker.core.ports.batching import Batcher
from voiceflow_worker.errors import StoreUnavailableError


class Trips:
    """A flush that a test can hold."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.open = anyio.Event()
        self.begun = anyio.Event()

    async def flush(self, items: Sequence[int]) -> list[int | BaseException]:
        self.seen.append(list(items))
        self.begun.set()
        await self.open.wait()
        return [ValueError(f"{item} is odd") if item % 2 else item * 10 for item in items]


@pytest.mark.anyio
async def test_what_comes_during_a_trip_goes_with_the_next_and_each_gets_its_own() -> None:
    trips = Trips()
    batcher: Batcher[int, int] = Batcher(trips.flush)
    answers: dict[int, int] = {}
    odd: list[str] = []

    async def call(item: int) -> None:
        try:
            answers[item] = await batcher.submit(item)
        except ValueError as error:
            odd.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(call, 0)
        await trips.begun.wait()
        for item in (1, 2, 4):
            group.start_soon(call, item)
        await anyio.wait_all_tasks_blocked()
        trips.open.set()
    assert [sorted(trip) for trip in trips.seen] == [[0], [1, 2, 4]]
    assert (answers, odd) == ({0: 0, 2: 20, 4: 40}, ["1 is odd"])


@pytest.mark.anyio
async def test_a_caller_that_is_cancelled_has_its_item_flushed_first() -> None:
    trips = Trips()
    batcher: Batcher[int, int] = Batcher(trips.flush)
    async with anyio.create_task_group() as group:
        group.start_soon(batcher.submit, 2)
        await trips.begun.wait()
        group.cancel_scope.cancel()
        trips.open.set()
    assert trips.seen == [[2]]
    assert await batcher.submit(4) == 40


def test_a_cancel_past_all_scopes_leaves_nobody_waiting() -> None:
    async def scenario() -> None:
        trips = Trips()
        batcher: Batcher[int, int] = Batcher(trips.flush)
        leader = asyncio.ensure_future(batcher.submit(2))
        await trips.begun.wait()
        gone, follower = (asyncio.ensure_future(batcher.submit(item)) for item in (4, 6))
        await asyncio.sleep(0)
        gone.cancel()
        leader.cancel()
        trips.open.set()
        assert await asyncio.wait_for(follower, 10) == 60
        assert await asyncio.wait_for(batcher.submit(8), 10) == 80
        assert all(each.cancelled() for each in await _ended(leader, gone))

    asyncio.run(scenario())


def test_those_who_share_a_trip_that_was_cut_short_are_told_to_ask_again() -> None:
    async def scenario() -> None:
        trips = Trips()
        batcher: Batcher[int, int] = Batcher(trips.flush)
        first = asyncio.ensure_future(batcher.submit(0))
        await trips.begun.wait()
        leader, follower = (asyncio.ensure_future(batcher.submit(item)) for item in (2, 4))
        await asyncio.sleep(0)
        trips.begun = anyio.Event()
        trips.open.set()
        trips.open = anyio.Event()
        await trips.begun.wait()
        leader.cancel()
        with pytest.raises(StoreUnavailableError, match="try again"):
            await asyncio.wait_for(follower, 10)
        assert await first == 0

    asyncio.run(scenario())


async def _ended(*tasks: asyncio.Future[int]) -> Sequence[asyncio.Future[int]]:
    await asyncio.wait(tasks)
    return tasks
