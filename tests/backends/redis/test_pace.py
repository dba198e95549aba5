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
from voiceflow_worker.backends.plain import plain_write
from voiceflow_worker.backends.record import to_micros
from voiceflow_worker.backends.redis.codec import LEAVES
from voiceflow_worker.backends.redis.faults import script
from voiceflow_worker.core.ports.controls import LIMITS, Limits, limits_put
from voiceflow_worker.core.ports.store import Slot, Write

ROOT = "{voiceflow}"

rates = st.one_of(st.floats(min_value=0.001, max_value=10_000), st.sampled_from([1.0, 10.0, 1 / 3, 50.0, 0.1]))
limits = st.builds(Limits, rate=st.one_of(st.none(), rates), burst=st.integers(1, 50))
moments = st.integers(0, 10_000_000_000).map(lambda micros: NOW + timedelta(microseconds=micros))
asks = st.tuples(moments, st.integers(0, 2_000_000).map(lambda n: timedelta(microseconds=n)))


def allotted(server: RedisServer, now: datetime, ahead: timedelta) -> list[str | float]:
    asked = {
        "now": str(to_micros(now)),
        "together": False,
        "writes": [plain_write(Write(slot=Slot(QUEUE, now, now + ahead)), LEAVES)],
    }
    (answer,) = json.loads(cast("str", ask(server.port, "EVAL", script("write").text, 1, ROOT, json.dumps(asked))))
    return [answer[0], *map(float, answer[1:])]


def kept(server: RedisServer) -> tuple[float, float]:
    tat, last = cast("list[str | None]", ask(server.port, "HMGET", f"{ROOT}:queue:{QUEUE}:pace", "tat", "last"))
    return float(tat or 0), float(last or 0)


Order = Limits | tuple[datetime, timedelta]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=st.lists(st.one_of(limits, asks, asks, asks), min_size=1, max_size=40))
def test_any_orders_and_slots_leave_the_pace_of_the_reference(
    redis_server: RedisServer, orders: Sequence[Order]
) -> None:
    ask(redis_server.port, "FLUSHALL")
    memory = Memory()
    for order in orders:
        if isinstance(order, Limits):
            put = limits_put(QUEUE, order)
            memory.answer(Write(puts=(put,)), NOW)
            ask(redis_server.port, "HSET", f"{ROOT}:records:{LIMITS}", f"{put.group}\0", f"|{put.value}")
        else:
            now, ahead = order
            found = allotted(redis_server, now, ahead)
            expected = memory.answer(Write(slot=Slot(QUEUE, now, now + ahead)), now)
            assert found[0] == expected.result.value
            assert expected.slot is not None
            times = [time.timestamp() for time in expected.slot if time is not None]
            # Dates are good to a microsecond; the pace that is kept is the same to the last bit.
            assert found[1:] == pytest.approx(times, abs=2e-6, rel=0)
            pace = memory.paces.get(QUEUE)
            assert kept(redis_server) == ((0, 0) if pace is None else (pace.tat, pace.last))
