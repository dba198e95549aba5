"""Send slots made in Lua are those of the reference, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.suite import NOW, QUEUE
from tests.support.redis_server import RedisServer, ask
from voiceflow_worker.backends.memory.store import Memory
from voiceflow_worker.backends.record import to_micros
from voiceflow_worker.backends.redis.faults import script
from voiceflow_worker.core.ports.controls import LIMITS, Limits, limits_put
from voiceflow_worker.core.ports.store import Unit

ROOT = "{voiceflow}"

rates = st.one_of(st.floats(min_value=0.001, max_value=10_000), st.sampled_from([1.0, 10.0, 1 / 3, 50.0, 0.1]))
limits = st.builds(Limits, rate=st.one_of(st.none(), rates), burst=st.integers(1, 50))
moments = st.integers(0, 10_000_000_000).map(lambda micros: NOW + timedelta(microseconds=micros))
takes = st.tuples(st.integers(0, 60), moments, st.integers(0, 2_000_000).map(lambda n: timedelta(microseconds=n)))


def take(server: RedisServer, wanted: int, now: datetime, horizon: timedelta) -> Sequence[float]:
    asked = {
        "queue": QUEUE,
        "wanted": wanted,
        "now": str(to_micros(now)),
        "now_seconds": repr(now.timestamp()),
        "horizon_seconds": repr(horizon.total_seconds()),
    }
    answer = ask(server.port, "EVAL", script("take").text, 1, ROOT, json.dumps(asked))
    return [float(each) for each in json.loads(cast("str", answer))]


def kept(server: RedisServer) -> tuple[float, float]:
    tat, last = cast("list[str | None]", ask(server.port, "HMGET", f"{ROOT}:queue:{QUEUE}:pace", "tat", "last"))
    return float(tat or 0), float(last or 0)


Step = Limits | tuple[int, datetime, timedelta]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(limits, takes), min_size=1, max_size=12))
def test_any_orders_and_takes_leave_the_pace_of_the_reference(redis_server: RedisServer, steps: Sequence[Step]) -> None:
    ask(redis_server.port, "FLUSHALL")
    memory = Memory()
    for step in steps:
        if isinstance(step, Limits):
            put = limits_put(QUEUE, step)
            memory.answer(Unit(puts=(put,)), NOW)
            ask(redis_server.port, "HSET", f"{ROOT}:records:{LIMITS}", f"{put.group}\0", f"|{put.value}")
        else:
            wanted, now, horizon = step
            answer = take(redis_server, wanted, now, horizon)
            slots = memory.take(QUEUE, wanted=wanted, horizon=horizon, now=now)
            if answer:
                assert len(answer) == 1 + len(slots.times)
                _same(answer, [slots.next_at.timestamp(), *(time.timestamp() for time in slots.times)])
            else:
                assert set(slots.times) <= {now}
            pace = memory.paces.get(QUEUE)
            assert kept(redis_server) == ((0, 0) if pace is None else (pace.tat, pace.last))


def _same(found: Sequence[float], expected: Sequence[float]) -> None:
    # Dates are good to a microsecond; the pace that is kept is the same to the last bit.
    assert found == pytest.approx(expected, abs=2e-6, rel=0)
