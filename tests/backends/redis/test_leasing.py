"""Leasing through lanes: what the order promises, whichever lane a job stands in."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE, moved, sample_job
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)


async def lease(store: Store, limit: int, at: datetime) -> list[str]:
    leased = await store.jobs.lease(QUEUE, worker_id="w", limit=limit, lease_for=MINUTE, now=at)
    return [job.id for job in leased]


async def test_jobs_of_many_batches_come_in_one_order(redis_server: RedisServer) -> None:
    jobs = [
        sample_job(
            number,
            batch_id=f"batch-{number % 40}" if number % 41 else None,
            priority=number % 3,
            due_at=NOW + (number * 7919 % 50) * timedelta(seconds=1),
        )
        for number in range(800)
    ]
    expected = [job.id for job in sorted(jobs, key=lambda job: (-job.priority, job.due_at, job.id))]
    async with open_store(redis_server.url) as store:
        await store.jobs.enqueue(jobs, now=NOW)
        found: list[str] = []
        for limit in (1, 7, 100, 33, 500, 300):
            found += await lease(store, limit, NOW + MINUTE)
    assert found == expected


async def test_what_had_lapsed_comes_back_when_the_clock_does(redis_server: RedisServer) -> None:
    """A clock that jumped ahead for a moment must not keep a call from being made in its time."""
    jobs = [sample_job(1, valid_until=NOW + MINUTE), sample_job(2, valid_until=NOW + 2 * MINUTE, priority=1)]
    async with open_store(redis_server.url) as store:
        await store.jobs.enqueue(jobs, now=NOW)
        assert await lease(store, 5, NOW + timedelta(days=1)) == []
        assert (await store.jobs.count(QUEUE))[JobState.QUEUED] == 2
        assert await lease(store, 1, NOW) == [jobs[1].id]
        assert await lease(store, 5, NOW + MINUTE) == []
        assert await lease(store, 5, NOW) == [jobs[0].id]


async def test_what_has_lapsed_can_be_moved_and_deleted(redis_server: RedisServer) -> None:
    jobs = [sample_job(number, valid_until=NOW + MINUTE) for number in (1, 2, 3)]
    async with open_store(redis_server.url) as store:
        await store.jobs.enqueue(jobs, now=NOW)
        assert await lease(store, 5, NOW + MINUTE) == []
        assert await store.jobs.commit([moved(jobs[0], state=JobState.EXPIRED)]) == [True]
        assert await store.jobs.delete([jobs[1]], keep_keys_until=NOW) == [True]
        assert await store.jobs.commit([moved(jobs[2], valid_until=None)]) == [True]
        assert await lease(store, 5, NOW + MINUTE) == [jobs[2].id]
        assert await lease(store, 5, NOW) == []
    assert redis_server.ask("EXISTS", "voiceflow:{default}:lapsed", "voiceflow:{default}:lanes") == 0
