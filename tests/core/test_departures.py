"""A worker's departures when the clock of its store is set back: it goes on, and does not wait for the old time."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from voiceflow_worker import open_store
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.core.departures import CLOCKS_DIFFER, HORIZON, Departures, Turn
from voiceflow_worker.core.ports import Limits

pytestmark = pytest.mark.anyio

RATE = 10
INTERVAL = timedelta(seconds=1 / RATE)


async def test_after_the_clock_was_set_back_it_leases_and_takes_turns_again_at_the_rate() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        await store.control.configure("default", Limits(rate=RATE))
        departures = Departures(store.control, clock, queue="default", rate=RATE)
        assert len(await departures.take(5)) == 2, "as many as the horizon holds"
        clock.advance(HORIZON)
        clock.jump(timedelta(hours=-1))
        assert departures.room()
        sent = 0
        for _ in range(100):
            clock.advance(INTERVAL)
            if departures.room():
                sent += len(await departures.take(1))
        assert 97 <= sent <= 100


async def test_a_turn_from_before_the_clock_was_set_back_is_not_waited_for_as_long_as_the_jump() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        await store.control.configure("default", Limits(rate=RATE))
        _, turn = await Departures(store.control, clock, queue="default", rate=RATE).take(2)
        clock.jump(timedelta(hours=-1))
        left = anyio.Event()

        async def leave(turn: Turn) -> None:
            await turn.near()
            assert await turn.depart(until=clock.now() + timedelta(hours=2))
            left.set()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(leave, turn)
                for _ in range(2):  # near, and then there
                    await anyio.wait_all_tasks_blocked()
                    assert not left.is_set()
                    clock.advance(CLOCKS_DIFFER + HORIZON + INTERVAL)
                await left.wait()


async def test_a_queue_that_another_worker_has_slowed_down_is_not_asked_again_and_again() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        await store.control.configure("default", Limits(rate=RATE))
        departures = Departures(store.control, clock, queue="default", rate=RATE)
        assert len(await departures.take(1)) == 1
        await store.control.configure("default", Limits(rate=RATE / 1000))
        clock.advance(INTERVAL)
        assert len(await departures.take(2)) == 1
        next_one = departures.room_at()
        assert next_one - clock.now() > CLOCKS_DIFFER + HORIZON + INTERVAL
        assert departures.room() == 0, "jobs were leased that cannot leave for a minute, and again at once"
        clock.advance(next_one - clock.now())
        assert departures.room() == 1
        assert len(await departures.take(1)) == 1
