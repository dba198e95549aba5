"""The clock that tests move by hand."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from voiceflow_worker.backends.contract import ManualClock

pytestmark = pytest.mark.anyio
SECOND = timedelta(seconds=1)


async def test_it_stands_still_until_it_is_moved() -> None:
    clock = ManualClock()
    before = clock.now()
    assert clock.now() == before
    clock.advance(SECOND)
    assert (clock.now() - before, clock.monotonic()) == (SECOND, 1.0)


async def test_who_sleeps_wakes_when_their_time_has_come() -> None:
    clock = ManualClock()
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for seconds in (3, 1, 2):
                group.start_soon(sleep, seconds)
            await anyio.wait_all_tasks_blocked()
            assert clock.sleepers == 3
            clock.advance(2 * SECOND)
            await anyio.wait_all_tasks_blocked()
            assert sorted(woken) == [1, 2]
            clock.advance(SECOND)
    assert (sorted(woken), clock.sleepers) == ([1, 2, 3], 0)


async def test_a_jump_moves_the_date_and_wakes_nobody() -> None:
    clock = ManualClock()
    before = clock.now()
    with anyio.move_on_after(0.02) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(clock.sleep, 1)
            await anyio.wait_all_tasks_blocked()
            clock.jump(-3600 * SECOND)
    assert scope.cancelled_caught
    assert (clock.now() - before, clock.monotonic(), clock.sleepers) == (-3600 * SECOND, 0.0, 0)


async def test_no_time_is_a_checkpoint() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await ManualClock().sleep(0)
        pytest.fail("a checkpoint lets a cancellation through")
    assert scope.cancelled_caught
