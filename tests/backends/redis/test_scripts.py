"""The scripts of Redis: what they do, what they cost in commands and memory, and whom they wake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.samples import add_jobs, commit, delete, new_job
from tests.contract.suite import NOW, QUEUE, moved, sample_job
from tests.support.redis_server import RedisServer, ask
from tests.support.workers import set_limits
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.memory.store import Memory
from voiceflow_worker.backends.plain import plain_write
from voiceflow_worker.backends.record import to_micros
from voiceflow_worker.backends.redis.codec import LEAVES
from voiceflow_worker.backends.redis.scripts import script
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports import Event, EventKind, Limits, Store
from voiceflow_worker.core.ports.controls import LIMITS, limits_put
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Page, Put, Record, Slot, Write
from voiceflow_worker.model.jobs.job import Job, JobState

pytestmark = pytest.mark.anyio


async def test_a_server_that_has_forgotten_its_scripts_is_told_them_again(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:

        async def everything() -> None:
            now = NOW + timedelta(seconds=1)
            await add_jobs(store, [sample_job(1), sample_job(2, unique_key="k")])
            [leased] = await store.lease(QUEUE, worker_id="w", limit=1, until=now + timedelta(minutes=1), now=now)
            assert await commit(store, [moved(leased, state=JobState.SENDING)]) == [True]
            assert len(await find_jobs(store, Listing(queue=QUEUE))) == 2
            await set_limits(store, QUEUE, Limits(rate=10))
            await store.write(BulkWrite(writes=(Write(slot=Slot(QUEUE, now, now)),)), now=now)
            await store.write(BulkWrite(writes=(Write(puts=(Put("space", "k", "v", None),)),)), now=now)
            assert list((await store.records({"space": Page()}, now=now))["space"]) == [Record("k", "v", None)]
            found = await find_jobs(store, Listing(queue=QUEUE))
            assert await delete(store, found, keep_keys_until=NOW) == [True, True]
            await store.prune(QUEUE, now=now, events_before=now, limit=10)

        await everything()
        redis_server.ask("SCRIPT", "FLUSH")
        await everything()


HOUR = timedelta(hours=1)


def commands(server: RedisServer) -> tuple[int, int]:
    """How many commands were carried out since the last reset, in scripts too, and how many scripts."""
    calls: dict[str, int] = {}
    for line in str(server.ask("INFO", "commandstats")).splitlines():
        name, _, told = line.partition(":calls=")
        if told:
            calls[name] = int(told.partition(",")[0])
    return sum(calls.values()), calls.get("cmdstat_evalsha", 0) + calls.get("cmdstat_eval", 0)


async def cost_of_a_lease(server: RedisServer, store: Store, job: Job) -> int:
    """How many commands a lease that gives this one job takes."""
    await add_jobs(store, [job])
    server.ask("CONFIG", "RESETSTAT")
    [leased] = await store.lease(QUEUE, worker_id="w", limit=5, until=NOW + HOUR, now=NOW)
    assert leased.id == job.id
    return commands(server)[0]


async def test_calls_that_expired_together_are_put_aside_in_slices(redis_server: RedisServer) -> None:
    """Linear in all, and no script does more than a slice of it."""
    async with open_store(redis_server.url) as store:
        alone = await cost_of_a_lease(redis_server, store, sample_job(50_000))
        late = [sample_job(number, valid_until=NOW) for number in range(4000)]
        await add_jobs(store, late, now=NOW - HOUR)
        redis_server.ask("CONFIG", "RESETSTAT")
        assert list(await store.lease(QUEUE, worker_id="w", limit=5, until=NOW + HOUR, now=NOW)) == []
        every, scripts = commands(redis_server)
        assert scripts >= 4000 / 250
        assert every < 4 * 4000
        assert await cost_of_a_lease(redis_server, store, sample_job(50_001)) <= alone + 5


LASTING = {
    "{voiceflow}:schema",
    "{voiceflow}:id",
    "{voiceflow}:made",
    "{voiceflow}:history",
    "{voiceflow}:sequence",
    "{voiceflow}:queue:default:changes",
    "{voiceflow}:queue:default:wake",
    "{voiceflow}:queue:default:sequence",
}
"""What is left of a store when all jobs, records and events are gone: counters, the schema and the id."""


async def test_everything_goes_when_everything_is_deleted(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:
        jobs = [
            sample_job(
                number,
                priority=number % 3,
                batch_id=f"batch-{number % 4}" if number % 4 else None,
                unique_key=f"key-{number}" if number % 2 else None,
                valid_until=NOW + HOUR * (number % 3) if number % 3 else None,
            )
            for number in range(300)
        ]
        await add_jobs(store, jobs)
        leased = await store.lease(QUEUE, worker_id="w", limit=120, until=NOW + HOUR, now=NOW)
        events = [Event(job_id=job.id, kind=EventKind.ENDED, at=NOW, state=job.state, revision="r") for job in leased]
        sent = [moved(job, event, state=JobState.SENDING, active_until=NOW + HOUR)
                for job, event in zip(leased, events, strict=True)]  # fmt: skip
        await commit(store, sent)
        await commit(store, [moved(new_job(write), state=JobState.IN_DOUBT) for write in sent[:40]])
        await commit(store,
            [moved(new_job(write), state=JobState.QUEUED, active_until=None, priority=9, batch_id="new",
                   destination="+1", valid_until=NOW + 9 * HOUR) for write in sent[40:80]]
        )  # fmt: skip
        # Some are found to have expired by a lease that comes late.
        await store.lease(QUEUE, worker_id="w", limit=100, until=NOW + 2 * HOUR + HOUR, now=NOW + 2 * HOUR)
        puts = tuple(Put("number", f"n{n}", "v", NOW + HOUR) for n in range(100))
        await store.write(BulkWrite(writes=(Write(puts=puts),)), now=NOW)

        left = await find_jobs(store, Listing(queue=QUEUE, limit=None))
        assert len(left) == 300
        assert all(await delete(store, left, keep_keys_until=NOW + HOUR))
        later = NOW + HOUR
        assert await store.prune(QUEUE, now=later, events_before=later, limit=999) == 120 + 100 + 150
    assert set(redis_server.ask("KEYS", "*")) == LASTING  # type: ignore[call-overload]


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
