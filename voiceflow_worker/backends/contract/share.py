"""The contract of a store as a whole: several users, and callers that are cancelled."""

from __future__ import annotations

from datetime import timedelta

import anyio
import anyio.lowlevel

from voiceflow_worker.backends.contract.ground import Ground, Opener
from voiceflow_worker.backends.contract.samples import (
    QUEUE,
    add_jobs,
    commit,
    enqueued,
    enqueued_jobs,
    moved,
    sample_job,
)
from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.model.jobs.job import Job, JobState

HOUR = timedelta(hours=1)


class ShareContract(Ground):
    """Tests of one storage with many users."""

    async def test_a_commit_is_visible_to_the_other_user(self, store: Store, other: Store) -> None:
        job = await enqueued(store)
        assert (await other.jobs.get([job.id]))[job.id] == job
        move = moved(job, state=JobState.SENDING)
        assert await commit(other, [move]) == [True]
        assert (await store.jobs.get([job.id]))[job.id] == move.new

    async def test_the_clock_is_aware_and_in_utc(self, store: Store) -> None:
        now = store.clock.now()
        assert now.utcoffset() == timedelta()
        assert store.clock.now() >= now
        assert store.clock.monotonic() <= store.clock.monotonic()
        with anyio.fail_after(30):
            await store.clock.sleep(0)
            await store.clock.sleep(-1)

    async def test_the_url_has_no_password(self, store: Store) -> None:
        assert ":" in store.url
        assert "@" not in store.url or ":***@" in store.url

    async def test_a_cancelled_caller_does_not_disturb_the_others(self, store: Store) -> None:
        """Many callers write at once, and some are cancelled. The others get right answers, and no move is partial."""
        jobs = await enqueued_jobs(store, 60)
        answered: dict[str, bool] = {}
        given_up: list[anyio.CancelScope] = []

        async def move(job: Job) -> None:
            with anyio.CancelScope() as scope:
                if int(job.id[-1]) % 2:
                    given_up.append(scope)
                answered[job.id] = (await commit(store, [moved(job, state=JobState.EXPIRED)]))[0]

        with anyio.fail_after(60):
            for start in range(0, 60, 20):
                async with anyio.create_task_group() as group:
                    for job in jobs[start : start + 20]:
                        group.start_soon(move, job)
                    for _ in range(start // 20):
                        await anyio.lowlevel.checkpoint()
                    for scope in given_up:
                        scope.cancel()
        found = {job.id: job.state for job in await store.jobs.find(Query(queue=QUEUE))}
        assert all(answered.values())
        assert all(found[job_id] is JobState.EXPIRED for job_id in answered)
        assert all(job.id in answered for job in jobs if not int(job.id[-1]) % 2)
        assert set(found.values()) <= {JobState.QUEUED, JobState.EXPIRED}
        assert sum((await store.jobs.count(QUEUE)).values()) == 60

    async def test_a_store_can_be_reopened(self, opener: Opener) -> None:
        for number in range(3):
            async with opener() as store:
                await add_jobs(store, [sample_job(number)])
        async with opener() as store:
            assert len(await store.jobs.find(Query(queue=QUEUE))) in {1, 3}  # a store in memory ends with its block
