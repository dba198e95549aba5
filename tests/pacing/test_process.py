"""The ceiling of one process: smooth, and asyncio's alone."""

from __future__ import annotations

import math
import time

import anyio
import pytest

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.pacing import ProcessRate

pytestmark = pytest.mark.anyio


async def passed(limiter: ProcessRate, count: int) -> list[float]:
    """When each of so many who ask at once came through."""
    times: list[float] = []

    async def one() -> None:
        await limiter.acquire()
        times.append(time.monotonic())

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return times


@pytest.mark.parametrize("burst", [1, 5])
async def test_no_span_of_time_has_more_than_the_burst_and_the_rate(burst: int) -> None:
    times = await passed(ProcessRate(100, burst=burst), 40)
    assert len(times) == 40
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            # Two more: a busy machine stops a task between its turn and its look at the clock.
            assert last - first + 1 <= burst + 100 * (times[last] - start) + 2


async def test_who_stops_waiting_takes_no_turn() -> None:
    limiter = ProcessRate(2)
    await limiter.acquire()
    with anyio.move_on_after(0.001):
        await limiter.acquire()
    began = time.monotonic()
    await limiter.acquire()
    assert time.monotonic() - began < 0.95  # one turn is 0.5 s, two would be 1 s


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_is_told_clearly() -> None:
    with pytest.raises(SettingsError, match="asyncio only"):
        await ProcessRate(10).acquire()


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (10, 0), (10, -5)])
def test_what_is_not_a_rate_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(SettingsError):
        ProcessRate(rate, burst=burst)


def test_it_tells_its_rate() -> None:
    assert repr(ProcessRate(2.5, burst=3)) == "ProcessRate(2.5, burst=3)"
