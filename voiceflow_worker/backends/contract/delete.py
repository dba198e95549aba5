"""The contract of the deletion of jobs, and of the keys of deleted jobs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import (
    NOW,
    QUEUE,
    add_jobs,
    commit,
    delete,
    enqueued_jobs,
    moved,
    sample_job,
)
from voiceflow_worker.core.ports import KeyOwner, Query, Store
from voiceflow_worker.model.jobs.job import Job, JobState

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


class DeleteContract(Ground):
    """Tests of the deletion of jobs. Unique keys of deleted jobs stay in use for a time."""

    @pytest.fixture
    async def buried(self, store: Store) -> Job:
        """A completed job that was deleted. Its key stays in use for a day."""
        job = sample_job(
            1,
            unique_key="order-42",
            state=JobState.COMPLETED,
            not_before=NOW - DAY,
            valid_until=NOW + DAY,
            due_at=NOW + 2 * DAY,
        )
        await add_jobs(store, [job])
        assert await delete(store, [job], keep_keys_until=NOW + DAY) == [True]
        return job

    async def test_a_deleted_job_is_gone(self, store: Store) -> None:
        jobs = await enqueued_jobs(store, 3, batch_id="b")
        assert await delete(store, jobs[:2], keep_keys_until=NOW + DAY) == [True, True]
        assert set(await store.jobs.get([job.id for job in jobs])) == {jobs[2].id}
        assert list(await store.jobs.find(Query(queue=QUEUE, batch_id="b"))) == [jobs[2]]
        assert sum((await store.jobs.count(QUEUE)).values()) == 1
        assert len(await store.jobs.lease(QUEUE, worker_id="w", limit=9, lease_for=DAY, now=NOW)) == 1

    async def test_a_job_that_was_moved_is_not_deleted(self, store: Store) -> None:
        jobs = await enqueued_jobs(store, 2)
        move = moved(jobs[0], state=JobState.COMPLETED)
        await commit(store, [move])
        assert await delete(store, jobs, keep_keys_until=NOW + DAY) == [False, True]
        assert (await store.jobs.get([jobs[0].id]))[jobs[0].id] == move.new

    async def test_a_deleted_job_is_not_moved(self, store: Store, buried: Job) -> None:
        assert await commit(store, [moved(buried, state=JobState.QUEUED)]) == [False]
        assert dict(await store.jobs.get([buried.id])) == {}

    async def test_owners_gives_deleted_jobs_too(self, store: Store, buried: Job) -> None:
        found = await store.jobs.owners(QUEUE, ["order-42", "free"], now=NOW)
        assert dict(found) == {"order-42": KeyOwner(buried.id, buried.body_digest, JobState.COMPLETED)}

    async def test_its_key_is_free_at_the_given_time(self, store: Store, buried: Job) -> None:
        assert set(await store.jobs.owners(QUEUE, ["order-42"], now=NOW + DAY - MICROSECOND)) == {"order-42"}
        assert dict(await store.jobs.owners(QUEUE, ["order-42"], now=NOW + DAY)) == {}
        fresh = sample_job(2, unique_key="order-42", body_digest="another")
        await add_jobs(store, [fresh], now=NOW + DAY)
        assert (await store.jobs.owners(QUEUE, ["order-42"], now=NOW))["order-42"].job_id == fresh.id
        assert buried.id != fresh.id

    async def test_pruning_counts_and_frees_keys_of_deleted_jobs(self, store: Store, buried: Job) -> None:
        assert await store.records.prune(now=NOW + DAY - MICROSECOND) == 0
        assert set(await store.jobs.owners(QUEUE, [buried.unique_key or ""], now=NOW)) == {"order-42"}
        assert await store.records.prune(now=NOW + DAY) == 1
        assert dict(await store.jobs.owners(QUEUE, ["order-42"], now=NOW)) == {}

    async def test_a_key_can_be_kept_a_second_time(self, store: Store, buried: Job) -> None:
        fresh = sample_job(2, unique_key="order-42", state=JobState.FAILED)
        await add_jobs(store, [fresh], now=NOW + DAY)
        assert await delete(store, [fresh], keep_keys_until=NOW + 3 * DAY) == [True]
        owner = (await store.jobs.owners(QUEUE, ["order-42"], now=NOW + 2 * DAY))["order-42"]
        assert owner == KeyOwner(fresh.id, buried.body_digest, JobState.FAILED)

    async def test_a_deleted_job_without_a_key_leaves_nothing(self, store: Store) -> None:
        await add_jobs(store, [sample_job()])
        await delete(store, [sample_job()], keep_keys_until=NOW + DAY)
        assert await store.records.prune(now=NOW + 2 * DAY) == 0

    async def test_one_call_deletes_a_thousand_jobs(self, store: Store) -> None:
        jobs = [sample_job(number, unique_key=f"k{number}") for number in range(1000)]
        await add_jobs(store, jobs)
        assert await delete(store, jobs, keep_keys_until=NOW + DAY) == [True] * 1000
        assert len(await store.jobs.owners(QUEUE, [f"k{number}" for number in range(1000)], now=NOW)) == 1000
        assert await store.records.prune(now=NOW + DAY) == 1000
