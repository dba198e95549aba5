"""Send slots: a rate that holds in every sliding second, whoever asks for them and whenever."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.jobs.gcra import CLOCKS_DIFFER, allot_slot

HORIZON = 0.1
ROUNDING = 1e-6

rates = st.one_of(st.integers(1, 1000).map(float), st.floats(0.05, 1000))
bursts = st.integers(1, 20)
plans = st.lists(st.tuples(st.floats(0, 1.5), st.integers(0, 30)), min_size=1, max_size=60)
"""How long after the one before a worker comes, and how many slots it asks for."""

skews = st.lists(st.floats(-5, 5), min_size=1, max_size=4)


def allotted(*, tat: float, wanted: int, rate: float, burst: int, now: float) -> tuple[list[float], float]:
    """The slots of so many calls that ask at one time, and the TAT after them."""
    times: list[float] = []
    for _ in range(wanted):
        last = times[-1] if times else 0.0
        found = allot_slot(tat=tat, rate=rate, burst=burst, after=now, until=now + HORIZON, last=last)
        tat = found.tat
        times += [] if found.at is None else [found.at]
    return times, tat


def planned(
    plan: list[tuple[float, int]], *, rate: float, burst: int, clocks: list[float] | None = None, tat: float = 0.0
) -> tuple[list[float], float]:
    """The slots of workers who come one after another; each of them has a clock of its own."""
    clocks = clocks or [0.0]
    now = 1000.0
    times: list[float] = []
    for turn, (pause, wanted) in enumerate(plan):
        now += pause
        found, tat = allotted(tat=tat, wanted=wanted, rate=rate, burst=burst, now=now + clocks[turn % len(clocks)])
        times += found
    return times, tat


def most_in_a_second(times: list[float]) -> int:
    return max((sum(start <= time < start + 1 - ROUNDING for time in times) for start in times), default=0)


@given(plan=plans, rate=rates, burst=bursts, clocks=st.just([0.0]) | skews)
def test_no_sliding_second_holds_more_than_the_rate_and_the_burst_though_clocks_of_workers_differ(
    plan: list[tuple[float, int]], rate: float, burst: int, clocks: list[float]
) -> None:
    times, _ = planned(plan, rate=rate, burst=burst, clocks=clocks)
    assert most_in_a_second(times) <= rate + burst


@given(plan=plans, rate=rates)
def test_without_a_burst_slots_are_smooth(plan: list[tuple[float, int]], rate: float) -> None:
    times, _ = planned(plan, rate=rate, burst=1)
    for earlier, later in pairwise(times):
        assert later - earlier >= 1 / rate - ROUNDING


@given(rate=rates, burst=bursts, idle=st.floats(0, 10**6))
def test_no_more_than_the_burst_leaves_at_once_however_long_the_queue_was_idle(
    rate: float, burst: int, idle: float
) -> None:
    _, tat = planned([(0.0, 5)], rate=rate, burst=burst)
    times, _ = allotted(tat=tat, wanted=100, rate=rate, burst=burst, now=2000 + idle)
    # The burst leaves at the last moment that was asked for, so its last slot may be beyond that by rounding.
    assert burst - 1 <= sum(time < times[0] + ROUNDING for time in times) <= burst


@given(rate=rates, burst=bursts, now=st.floats(0, 10**6), tat=st.floats(0, 10**6))
def test_a_slot_lies_in_the_time_that_was_asked_for_and_before_the_next(
    rate: float, burst: int, now: float, tat: float
) -> None:
    found = allot_slot(tat=tat, rate=rate, burst=burst, after=now, until=now + HORIZON)
    assert found.at is None or now <= found.at <= min(now + HORIZON, found.next_at)


@given(rate=rates, burst=bursts, now=st.floats(0, 10**6), ahead=st.floats(HORIZON, HORIZON + CLOCKS_DIFFER))
def test_who_gets_none_changes_nothing_and_learns_when_the_next_is_free(
    rate: float, burst: int, now: float, ahead: float
) -> None:
    tat = now + ahead + burst / rate
    found = allot_slot(tat=tat, rate=rate, burst=burst, after=now, until=now + HORIZON)
    assert (found.at, found.tat) == (None, tat)
    again = allot_slot(tat=tat, rate=rate, burst=burst, after=now, until=found.next_at)
    assert again.at == found.next_at


@pytest.mark.parametrize(("rate", "burst"), [(10.0, 1), (50.0, 5)])
def test_who_asks_often_enough_loses_nothing_of_the_rate(rate: float, burst: int) -> None:
    times, _ = planned([(0.02, 100)] * 1500, rate=rate, burst=burst)
    within = [time for time in times if time < 1030]
    assert len(within) >= 0.99 * rate * 29.9


@given(rate=rates, burst=bursts, back=st.floats(CLOCKS_DIFFER, 10**7), plan=plans)
def test_a_clock_that_was_set_back_costs_an_interval_and_the_rate_holds_from_there(
    rate: float, burst: int, back: float, plan: list[tuple[float, int]]
) -> None:
    now, interval = 1000.0, 1 / rate
    ahead = HORIZON + burst * interval + back + ROUNDING
    first = allot_slot(tat=now + ahead, rate=rate, burst=burst, after=now, until=now + HORIZON)
    assert first == (None, now + ahead, now + HORIZON + CLOCKS_DIFFER, now + HORIZON)
    then = now + CLOCKS_DIFFER + HORIZON
    found = allot_slot(
        tat=then + ahead, rate=rate, burst=burst, after=then, until=then + HORIZON, unreached=now + HORIZON
    )
    assert (found.at, found.unreached) == (None, None)
    assert found.next_at == pytest.approx(then + HORIZON + interval)
    times, _ = planned(plan, rate=rate, burst=burst, tat=found.tat)
    assert most_in_a_second(times) <= rate + burst
