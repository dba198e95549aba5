"""The contract of a store as a whole: its clock, its URL, several users, and callers that are cancelled."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from voiceflow_worker.backends.contract.ground import Ground, Opener
from voiceflow_worker.backends.contract.samples import NOW, QUEUE, sample_job, sample_jobs
from voiceflow_worker.backends.contract.writing import DONE, next_of, states, stored, to, write
from voiceflow_worker.core.ports.store import Query, Result, Store
from voiceflow_worker.model.jobs.job import Job, JobState


class ShareContract(Ground):
    """One storage with many users."""

    async def test_the_clock_is_in_utc_and_runs(self, store: Store) -> None:
        now = store.clock.now()
        assert str(now.tzinfo) == "UTC"
        assert store.clock.now() >= now
        assert store.clock.monotonic() <= store.clock.monotonic()
        with anyio.fail_after(30):
            await store.clock.sleep(0)
            await store.clock.sleep(-1)

    async def test_the_url_has_no_password(self, store: Store) -> None:
        assert ":" in store.url
        assert "@" not in store.url or ":***@" in store.url

    async def test_a_cancelled_caller_does_not_disturb_the_others(self, store: Store) -> None:
        """Many callers write at once, and some are cancelled. The others get right answers, and no unit is partial."""
        jobs = await stored(store, *sample_jobs(60))
        answered: dict[str, Result] = {}
        given_up: list[anyio.CancelScope] = []

        async def move(job: Job) -> None:
            with anyio.CancelScope() as scope:
                if int(job.id[-1]) % 2:
                    given_up.append(scope)
                (answered[job.id],) = await write(store, to(job, next_of(job, state=JobState.EXPIRED)))

        with anyio.fail_after(60):
            for start in range(0, 60, 20):
                async with anyio.create_task_group() as group:
                    for job in jobs[start : start + 20]:
                        group.start_soon(move, job)
                    for _ in range(start // 20):
                        await anyio.lowlevel.checkpoint()
                    for scope in given_up:
                        scope.cancel()
        found = {job.id: job.state for job in await store.jobs(Query(queue=QUEUE), now=NOW)}
        assert set(answered.values()) == {DONE}
        assert all(found[job_id] is JobState.EXPIRED for job_id in answered)
        assert all(job.id in answered for job in jobs if not int(job.id[-1]) % 2)
        assert set(found.values()) <= {JobState.QUEUED, JobState.EXPIRED}
        assert sum((await states(store)).values()) == 60

    async def test_a_store_can_be_reopened(self, opener: Opener) -> None:
        for number in range(3):
            async with opener() as store:
                await stored(store, sample_job(number))
        async with opener() as store:
            found = await store.jobs(Query(queue=QUEUE), now=NOW)
            assert len(found) in {1, 3}  # a store in memory may end with its block
