"""Departure times, as all backends take them."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.backends.contract import NOW
from voiceflow_worker.backends.departures import Pace, repaced, taken
from voiceflow_worker.core.ports import Limits

DAY = timedelta(days=1)
RATES = st.floats(min_value=0.01, max_value=2000)
STEPS = st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(0, 10)), min_size=1, max_size=30)


@given(RATES, st.integers(1, 5), STEPS)
def test_in_no_second_more_leave_than_rate_and_burst(rate: float, burst: int, steps: list[tuple[int, int]]) -> None:
    limits, pace, now = Limits(rate=rate, burst=burst), Pace(), NOW
    times: list[datetime] = []
    for pause, wanted in steps:
        now += timedelta(microseconds=pause)
        slots, pace = taken(limits, pace, wanted=wanted, horizon=timedelta(milliseconds=100), now=now)
        assert all(now <= time <= now + timedelta(milliseconds=100, microseconds=1) for time in slots.times)
        assert slots.next_at >= now
        times += slots.times
    assert times == sorted(times)
    for start in times:
        within = sum(start <= time < start + timedelta(seconds=1) for time in times)
        assert within <= rate + burst + 1e-3


@given(RATES, st.integers(1, 5), st.integers(1, 20), st.integers(0, 10_000_000))
def test_the_same_limits_again_change_no_departure(rate: float, burst: int, wanted: int, pause: int) -> None:
    limits = Limits(rate=rate, burst=burst)
    _, pace = taken(limits, Pace(), wanted=wanted, horizon=DAY, now=NOW)
    later = NOW + timedelta(microseconds=pause)
    kept, _ = taken(limits, pace, wanted=3, horizon=DAY, now=later)
    again, _ = taken(limits, repaced(pace, limits), wanted=3, horizon=DAY, now=later)
    # To 2 µs: epoch seconds as floats have a grain of a quarter of one.
    assert all(abs(one - two) <= timedelta(microseconds=2) for one, two in zip(kept.times, again.times, strict=True))


@given(RATES, RATES, st.integers(1, 5), st.integers(1, 5))
def test_a_new_rate_holds_from_the_last_departure_on(old: float, new: float, old_burst: int, new_burst: int) -> None:
    first, pace = taken(Limits(rate=old, burst=old_burst), Pace(), wanted=7, horizon=DAY, now=NOW)
    limits = Limits(rate=new, burst=new_burst)
    second, _ = taken(limits, repaced(pace, limits), wanted=1, horizon=10 * DAY, now=NOW)
    assert second.times[0] <= first.times[-1] + timedelta(seconds=1 / new, microseconds=2)
