"""Departure times made in Lua are those of the model, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.redis_server import RedisServer, ask
from voiceflow_worker.backends.contract import NOW
from voiceflow_worker.backends.departures import Pace, repaced, taken
from voiceflow_worker.backends.redis.connection.scripts import script
from voiceflow_worker.core.ports import Limits

KEY = "{voiceflow}:queue:pace"

rates = st.one_of(st.floats(min_value=0.001, max_value=10_000), st.sampled_from([1.0, 10.0, 1 / 3, 50.0, 0.1]))
limits = st.builds(Limits, rate=st.one_of(st.none(), rates), burst=st.integers(1, 50))
moments = st.integers(0, 10_000_000_000).map(lambda micros: NOW + timedelta(microseconds=micros))
takes = st.tuples(st.integers(0, 60), moments, st.integers(0, 2_000_000).map(lambda n: timedelta(microseconds=n)))


def run(server: RedisServer, name: str, *args: object) -> Any:
    return ask(server.port, "EVAL", script(name).text, 1, KEY, *(str(arg) for arg in args))


def order(server: RedisServer, ordered: Limits) -> None:
    run(server, "configure", "" if ordered.rate is None else repr(ordered.rate), ordered.burst, "")


def take(server: RedisServer, wanted: int, now: datetime, horizon: timedelta) -> Sequence[float]:
    answer = run(server, "take", wanted, repr(now.timestamp()), repr(horizon.total_seconds()))
    return [float(each) for each in cast("list[str]", answer)]


def kept(server: RedisServer) -> Pace:
    tat, last = cast("list[str | None]", ask(server.port, "HMGET", f"{KEY}:pace", "tat", "last"))
    return Pace(float(tat or 0), float(last or 0))


Step = Limits | tuple[int, datetime, timedelta]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(limits, takes), min_size=1, max_size=12))
def test_any_orders_and_takes_leave_the_pace_of_the_model(redis_server: RedisServer, steps: Sequence[Step]) -> None:
    ask(redis_server.port, "FLUSHALL")
    standing: Limits | None = None
    pace = Pace()
    for step in steps:
        if isinstance(step, Limits):
            order(redis_server, step)
            standing, pace = step, repaced(pace, step)
        else:
            wanted, now, horizon = step
            answer = take(redis_server, wanted, now, horizon)
            slots, pace = taken(standing, pace, wanted=wanted, horizon=horizon, now=now)
            if standing is None or standing.rate is None:
                assert answer == []
            else:
                assert len(answer) == 1 + len(slots.times)
                _same(answer[1:], [time.timestamp() for time in slots.times])
                _same(answer[:1], [slots.next_at.timestamp()])
        assert kept(redis_server) == pace


def _same(found: Sequence[float], expected: Sequence[float]) -> None:
    # Dates are good to a microsecond; the pace that is kept, compared above, is the same to the last bit.
    assert found == pytest.approx(expected, abs=2e-6, rel=0)
