"""A server that drops single keys (eviction): what is left of a job in the indexes stops nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import NOW, QUEUE, sample_job
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.core.base.reading import count_states, find_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Due, Expired, Listing, OfNumber, Searched, Waiting
from voiceflow_worker.core.ports.store import Owner
from voiceflow_worker.model.jobs.job import Job, JobState

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)
BASE = "{voiceflow}:queue:default"


def drop(server: RedisServer, *jobs: Job) -> None:
    """Drop the records of jobs, as a server does that evicts."""
    for job in jobs:
        assert server.ask("DEL", f"{BASE}:job:{job.id}") == 1


async def lease(store: Store, limit: int = 10) -> list[str]:
    found = await store.lease(QUEUE, worker_id="w", limit=limit, until=NOW + MINUTE, now=NOW)
    return [job.id for job in found]


async def test_a_lost_job_does_not_stop_the_queue(redis_server: RedisServer) -> None:
    jobs = [sample_job(number, batch_id="b" if number % 2 else None, valid_until=NOW + MINUTE) for number in range(6)]
    async with open_store(redis_server.url) as store:
        await add_jobs(store, jobs)
        drop(redis_server, jobs[0], jobs[1], jobs[4])
        assert await lease(store) == [jobs[2].id, jobs[3].id, jobs[5].id]
        assert (await count_states(store, QUEUE))[JobState.QUEUED] == 0
        assert (await count_states(store, QUEUE, batch_id="b"))[JobState.QUEUED] == 0


@pytest.mark.parametrize(
    "read",
    [
        Listing(queue=QUEUE),
        Listing(queue=QUEUE, states=frozenset({JobState.QUEUED})),
        Listing(queue=QUEUE, batch="b"),
        OfNumber(queue=QUEUE, number=sample_job(1).destination),
        Due(queue=QUEUE, state=JobState.QUEUED),
        Expired(queue=QUEUE, at=NOW + MINUTE),
        Waiting(queue=QUEUE, batch="b"),
    ],
    ids=lambda read: f"{type(read).__name__}-{getattr(read, 'batch', None)}-{getattr(read, 'states', None)}",
)
async def test_a_listing_leaves_lost_jobs_out(redis_server: RedisServer, read: Searched) -> None:
    destination = sample_job(1).destination
    jobs = [sample_job(n, batch_id="b", valid_until=NOW + MINUTE, destination=destination) for n in range(5)]
    async with open_store(redis_server.url) as store:
        await add_jobs(store, jobs)
        drop(redis_server, *jobs[:3])
        assert [job.id for job in await find_jobs(store, read)] == [jobs[3].id, jobs[4].id]


async def test_a_lost_job_keeps_its_unique_key(redis_server: RedisServer) -> None:
    """Nobody knows whether it was called, so its key must not call the person again."""
    job = sample_job(1, unique_key="k")
    async with open_store(redis_server.url) as store:
        await add_jobs(store, [job])
        drop(redis_server, job)
        await lease(store)
        (answer,) = await add_jobs(store, [sample_job(2, unique_key="k")])
        assert list(answer.owners.values()) == [Owner(job.id, "", JobState.IN_DOUBT)]
