"""Send slots: a rate that holds in every sliding second, whoever takes them and whenever."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.jobs.gcra import CLOCKS_DIFFER, take_slots

HORIZON = 0.1
ROUNDING = 1e-6

rates = st.one_of(st.integers(1, 1000).map(float), st.floats(0.05, 1000))
bursts = st.integers(1, 20)
takes = st.lists(st.tuples(st.floats(0, 1.5), st.integers(0, 30)), min_size=1, max_size=60)
"""How long after the one before a worker comes, and how many times it wants."""

skews = st.lists(st.floats(-5, 5), min_size=1, max_size=4)


def taken(
    plan: list[tuple[float, int]], *, rate: float, burst: int, clocks: list[float] | None = None, tat: float = 0.0
) -> tuple[list[float], float]:
    """The slots of workers who come one after another; each of them has a clock of its own."""
    clocks = clocks or [0.0]
    now = 1000.0
    times: list[float] = []
    for turn, (pause, wanted) in enumerate(plan):
        now += pause
        granted = take_slots(
            tat=tat, wanted=wanted, rate=rate, burst=burst, now=now + clocks[turn % len(clocks)], horizon=HORIZON
        )
        tat = granted.tat
        times += granted.times
    return times, tat


def most_in_a_second(times: list[float]) -> int:
    return max((sum(start <= time < start + 1 - ROUNDING for time in times) for start in times), default=0)


@given(plan=takes, rate=rates, burst=bursts, clocks=st.just([0.0]) | skews)
def test_no_sliding_second_holds_more_than_the_rate_and_the_burst_though_clocks_of_workers_differ(
    plan: list[tuple[float, int]], rate: float, burst: int, clocks: list[float]
) -> None:
    times, _ = taken(plan, rate=rate, burst=burst, clocks=clocks)
    assert most_in_a_second(times) <= rate + burst


@given(plan=takes, rate=rates)
def test_without_a_burst_slots_are_smooth(plan: list[tuple[float, int]], rate: float) -> None:
    times, _ = taken(plan, rate=rate, burst=1)
    for earlier, later in pairwise(times):
        assert later - earlier >= 1 / rate - ROUNDING


@given(rate=rates, burst=bursts, idle=st.floats(0, 10**6))
def test_no_more_than_the_burst_leaves_at_once_however_long_the_queue_was_idle(
    rate: float, burst: int, idle: float
) -> None:
    _, tat = taken([(0.0, 5)], rate=rate, burst=burst)
    granted = take_slots(tat=tat, wanted=1000, rate=rate, burst=burst, now=2000 + idle, horizon=HORIZON)
    assert sum(time < 2000 + idle + ROUNDING for time in granted.times) == burst


@given(rate=rates, burst=bursts, wanted=st.integers(0, 200), now=st.floats(0, 10**6), tat=st.floats(0, 10**6))
def test_what_is_given_lies_between_now_and_the_horizon_in_order(
    rate: float, burst: int, wanted: int, now: float, tat: float
) -> None:
    granted = take_slots(tat=tat, wanted=wanted, rate=rate, burst=burst, now=now, horizon=HORIZON)
    assert len(granted.times) <= wanted
    assert all(now <= time <= now + HORIZON for time in granted.times)
    assert list(granted.times) == sorted(granted.times)
    assert granted.next_at >= max((now, *granted.times))


@given(rate=rates, burst=bursts, now=st.floats(0, 10**6), ahead=st.floats(-(10**6), HORIZON + CLOCKS_DIFFER))
def test_who_wants_nothing_changes_nothing_and_learns_when_the_next_is_free(
    rate: float, burst: int, now: float, ahead: float
) -> None:
    tat = now + ahead
    granted = take_slots(tat=tat, wanted=0, rate=rate, burst=burst, now=now, horizon=HORIZON)
    assert (granted.times, granted.tat) == ((), tat)
    first = take_slots(tat=tat, wanted=1, rate=rate, burst=burst, now=granted.next_at, horizon=HORIZON).times
    assert first == pytest.approx((granted.next_at,))


@given(plan=st.lists(st.integers(1, 7), min_size=1, max_size=20), rate=rates, burst=bursts)
def test_many_takers_get_together_what_one_would_get(plan: list[int], rate: float, burst: int) -> None:
    many, tat = taken([(0.0, wanted) for wanted in plan], rate=rate, burst=burst)
    one = take_slots(tat=0.0, wanted=sum(plan), rate=rate, burst=burst, now=1000.0, horizon=HORIZON)
    assert many == list(one.times)
    assert tat == one.tat


@pytest.mark.parametrize(("rate", "burst"), [(10.0, 1), (50.0, 1), (50.0, 5), (1000.0, 10)])
def test_who_asks_often_enough_loses_nothing_of_the_rate(rate: float, burst: int) -> None:
    times, _ = taken([(0.02, 100)] * 1500, rate=rate, burst=burst)
    within = [time for time in times if time < 1030]
    assert len(within) >= 0.99 * rate * 29.9


@given(rate=rates, burst=bursts, back=st.floats(CLOCKS_DIFFER, 10**7), plan=takes)
def test_a_clock_that_was_rolled_back_costs_an_interval_and_the_rate_holds_from_there(
    rate: float, burst: int, back: float, plan: list[tuple[float, int]]
) -> None:
    now, interval = 1000.0, 1 / rate
    ahead = HORIZON + burst * interval + back + ROUNDING
    granted = take_slots(tat=now + ahead, wanted=1, rate=rate, burst=burst, now=now, horizon=HORIZON)
    assert granted.times == ()
    assert granted.next_at == pytest.approx(now + HORIZON + interval)
    times, _ = taken(plan, rate=rate, burst=burst, tat=granted.tat)
    assert most_in_a_second(times) <= rate + burst
