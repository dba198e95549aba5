"""Helpers of trips to the store: batches, retries, log lines, and names for things."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import anyio
import pytest

from voiceflow_worker.core.base.identity import checked_queue, job_of, new_job_ids, queue_of
from voiceflow_worker.core.base.round_trips import Batcher, RateLimitedLog, gather
from voiceflow_worker.errors import InvalidInputError, JobNotFoundError, StoreUnavailableError

pytestmark = pytest.mark.anyio


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
        assert trips.seen == [[2], [6], [8]], "nobody carries out what its caller has given up"

    asyncio.run(scenario())


def test_a_cancelled_caller_cuts_nobody_elses_item() -> None:
    async def scenario() -> None:
        trips = Trips()
        batcher: Batcher[int, int] = Batcher(trips.flush)
        first = asyncio.ensure_future(batcher.submit(0))
        await trips.begun.wait()
        leader, *others = (asyncio.ensure_future(batcher.submit(item)) for item in (2, 4, 6))
        await asyncio.sleep(0)
        trips.begun = anyio.Event()
        trips.open.set()
        trips.open = anyio.Event()
        await trips.begun.wait()
        leader.cancel()
        await asyncio.sleep(0)
        trips.open.set()
        assert await asyncio.wait_for(asyncio.gather(first, *others), 10) == [0, 40, 60]
        assert all(each.cancelled() for each in await _ended(leader))
        assert trips.seen == [[0], [2, 4, 6]]

    asyncio.run(scenario())


async def _ended(*tasks: asyncio.Future[int]) -> Sequence[asyncio.Future[int]]:
    await asyncio.wait(tasks)
    return tasks


async def test_the_results_are_in_the_order_of_the_trips_whichever_ends_first() -> None:
    second_ended = anyio.Event()

    async def first() -> str:
        await second_ended.wait()
        return "first"

    async def second() -> int:
        second_ended.set()
        return 2

    with anyio.fail_after(30):
        assert await gather(first, second) == ("first", 2)


async def test_the_first_error_is_raised_after_all_trips_have_ended() -> None:
    failed = anyio.Event()
    ended: list[int] = []

    async def fails() -> None:
        failed.set()
        raise StoreUnavailableError("the store is away")

    async def goes_on(number: int) -> None:
        await failed.wait()
        ended.append(number)
        if number == 2:
            raise JobNotFoundError("job-2")

    with anyio.fail_after(30), pytest.raises(StoreUnavailableError, match="the store is away"):
        await gather(*(partial(goes_on, number) for number in (1, 2, 3)), fails)
    assert sorted(ended) == [1, 2, 3]


def test_what_repeats_is_reported_once_a_second_and_counted() -> None:
    now = [100.0]
    limited = RateLimitedLog(every=1.0, monotonic=lambda: now[0])
    assert [limited.admit("a"), limited.admit("a"), limited.admit("b"), limited.admit("a")] == [0, None, 0, None]
    now[0] += 0.9
    assert limited.admit("a") is None
    now[0] += 0.2
    assert [limited.admit("a"), limited.admit("a"), limited.admit("b")] == [3, None, 0]
    assert [limited.admit(kind) for kind in range(999)] == 999 * [0]
    assert limited.admit("a") == 0, "it remembers a thousand kinds at most"


NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def test_ids_of_many_calls_in_one_millisecond_are_all_different() -> None:
    ids = [job_id for _ in range(200) for job_id in new_job_ids("default", 50, at=NOW)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 200 * 50


def test_ids_of_one_call_grow_and_later_ones_are_larger() -> None:
    ids = new_job_ids("default", 1000, at=NOW)
    assert ids == sorted(ids)
    assert ids[-1] < new_job_ids("default", 1, at=NOW.replace(second=1))[0]


def test_a_client_request_id_fits_fifty_characters_and_names_its_post() -> None:
    queue = "a-queue-of-16-ch"
    (job_id,) = new_job_ids(queue, 1, at=NOW)
    assert len(f"{job_id}.999999") == 50
    assert job_of(f"{job_id}.12") == (job_id, 12)
    assert queue_of(job_id) == queue


def test_a_client_request_id_of_somebody_else_names_no_post_of_ours() -> None:
    for foreign in [
        "",
        "crm-4711",
        "crm-4711.x",
        "Default.01ABC.1",
        "default.01ABC.1234567",
        ".1",
        "a.1",
        "default.01ABC.²",
    ]:
        assert job_of(foreign) is None


def test_a_bad_queue_name_is_refused_with_the_rule() -> None:
    for name in ["", "Default", "-a", "a_b", "a" * 17, "a.b"]:
        with pytest.raises(InvalidInputError, match="1 to 16"):
            checked_queue(name)
