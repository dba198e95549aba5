"""A worker's departures when the clock of its store is set back: it goes on, and does not wait for the old time."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import anyio
import pytest

from tests.support.manual_time import passing
from voiceflow_worker import open_store
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.core.sending.departures import (
    CLOCKS_DIFFER,
    HORIZON,
    PATIENCE,
    STALE,
    Departure,
    Departures,
    set_limits,
)

pytestmark = pytest.mark.anyio

RATE = 10
INTERVAL = timedelta(seconds=1 / RATE)


async def test_after_the_clock_was_set_back_it_leases_and_takes_turns_again_at_the_rate() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        await set_limits(store, "default", Limits(rate=RATE))
        departures = Departures(store, queue="default", rate=RATE)
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
        await set_limits(store, "default", Limits(rate=RATE))
        _, turn = await Departures(store, queue="default", rate=RATE).take(2)
        clock.jump(timedelta(hours=-1))
        left = anyio.Event()

        async def leave(turn: Departure) -> None:
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
        await set_limits(store, "default", Limits(rate=RATE))
        departures = Departures(store, queue="default", rate=RATE)
        assert len(await departures.take(1)) == 1
        await set_limits(store, "default", Limits(rate=RATE / 1000))
        clock.advance(INTERVAL)
        assert len(await departures.take(2)) == 1
        next_one = departures.room_at()
        assert next_one - clock.now() > CLOCKS_DIFFER + HORIZON + INTERVAL
        assert departures.room() == 0, "jobs were leased that cannot leave for a minute, and again at once"
        clock.advance(next_one - clock.now())
        assert departures.room() == 1
        assert len(await departures.take(1)) == 1


@pytest.mark.parametrize("stall", [STALE + timedelta(milliseconds=1), timedelta(milliseconds=90), timedelta(seconds=3)])
async def test_departures_that_were_missed_do_not_come_out_in_a_bunch(stall: timedelta) -> None:
    """Five calls have their times, 20 ms apart; the process stands still. Those that it missed have new ones."""
    clock = ManualClock()
    interval = timedelta(milliseconds=20)
    left: list[datetime] = []
    async with open_store("memory://", clock=clock) as store:
        await set_limits(store, "default", Limits(rate=50))
        departures = Departures(store, queue="default", rate=50)
        turns = await departures.take(5)
        missed = [clock.now() + place * interval for place in range(5)]
        clock.advance(stall)
        kept = [at for at in missed if clock.now() - at <= STALE]

        async def leave(turn: Departure) -> None:
            assert await turn.depart(until=clock.now() + timedelta(minutes=1))
            left.append(clock.now())

        async def all_leave() -> None:
            async with anyio.create_task_group() as group:
                for turn in turns:
                    group.start_soon(leave, turn)

        await passing(clock, all_leave)
    assert len(left) == 5
    given_anew = left[len(kept) :]
    assert len(given_anew) == 5 - len(kept) > 0
    assert all(later - earlier >= interval for earlier, later in pairwise(given_anew))


async def test_a_journalled_call_that_missed_its_departure_waits_for_seconds_only() -> None:
    """One that is journalled is in doubt if its worker is killed: it does not wait for a time a minute ahead."""
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        await set_limits(store, "default", Limits(rate=1 / 60))
        departures = Departures(store, queue="default", rate=1 / 60)
        (turn,) = await departures.take(1)
        clock.advance(timedelta(seconds=7))
        began = clock.now()
        leaves = None

        async def depart() -> None:
            nonlocal leaves
            leaves = await turn.depart(until=began + timedelta(minutes=2))

        await passing(clock, depart)
        assert leaves is False
        assert clock.now() - began <= PATIENCE
        assert departures.room_at() < began + timedelta(minutes=1), "a departure time was taken and not used"


async def test_at_a_low_rate_a_departure_may_be_missed_by_a_tenth_of_the_time_until_the_next() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        await set_limits(store, "default", Limits(rate=1 / 60))
        departures = Departures(store, queue="default", rate=1 / 60)
        (turn,) = await departures.take(1)
        clock.advance(timedelta(seconds=5))
        assert await turn.depart(until=clock.now() + timedelta(minutes=2))
