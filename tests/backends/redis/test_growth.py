"""The cost of leases and sweeps on Redis: it does not grow with jobs that wait, are held, or have expired."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import NOW, QUEUE, sample_job
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job

pytestmark = pytest.mark.anyio
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


@pytest.mark.parametrize("priorities", [1, 500])
async def test_batches_that_are_not_due_cost_a_lease_nothing(redis_server: RedisServer, priorities: int) -> None:
    async with open_store(redis_server.url) as store:
        await add_jobs(store, [sample_job(1, batch_id="b1", due_at=NOW + HOUR)])
        alone = await cost_of_a_lease(redis_server, store, sample_job(5000))
        later = [
            sample_job(number, batch_id=f"b{number}", due_at=NOW + HOUR, priority=number % priorities)
            for number in range(2, 2000)
        ]
        await add_jobs(store, later)
        assert await cost_of_a_lease(redis_server, store, sample_job(5001)) <= alone + 5


@pytest.mark.parametrize("state", [GateState.HELD, GateState.CANCELLED])
async def test_closed_batches_cost_only_the_lease_that_meets_them(redis_server: RedisServer, state: GateState) -> None:
    async with open_store(redis_server.url) as store:
        alone = await cost_of_a_lease(redis_server, store, sample_job(5000))
        closed = [sample_job(number, batch_id=f"b{number}") for number in range(1, 801)]
        await add_jobs(store, closed)
        for job in closed:
            gate = Gate(queue=QUEUE, scope=GateScope.BATCH, name=job.batch_id or "", state=state, since=NOW)
            await order_gate(store, gate)
        await cost_of_a_lease(redis_server, store, sample_job(5001))
        assert await cost_of_a_lease(redis_server, store, sample_job(5002)) <= alone + 5


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
