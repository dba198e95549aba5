"""The contract of `Jobs.wait`."""

from __future__ import annotations

from datetime import timedelta

import anyio

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import NOW, QUEUE, add_jobs, commit, enqueued, gate, moved, sample_job
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.settling.gates import order_gate
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import JobState

LONG = timedelta(hours=1)
"""A time longer than any test. A task that waits this long was not woken."""


async def change_count(store: Store) -> int:
    return await store.jobs.wait(QUEUE, seen=0, until=store.clock.now() + LONG)


async def after(store: Store, seen: int) -> int:
    """Wait until the change count is not `seen`, and return the count. A wait that ends early is repeated."""
    with anyio.fail_after(30):
        while (count := await store.jobs.wait(QUEUE, seen=seen, until=store.clock.now() + LONG)) == seen:
            pass
    return count


class WaitContract(Ground):
    """Tests of waiting for changes of a queue."""

    async def test_a_first_call_returns_at_once(self, store: Store) -> None:
        with anyio.fail_after(30):
            assert await change_count(store) > 0

    async def test_an_enqueue_raises_the_count(self, store: Store) -> None:
        seen = await change_count(store)
        await add_jobs(store, [sample_job()])
        assert await after(store, seen) > seen

    async def test_a_job_that_is_queued_again_raises_the_count(self, store: Store) -> None:
        job = await enqueued(store, state=JobState.LEASED)
        seen = await change_count(store)
        await commit(store, [moved(job, state=JobState.QUEUED)])
        assert await after(store, seen) > seen

    async def test_a_change_of_a_gate_raises_the_count(self, store: Store) -> None:
        for batch in (None, "b"):
            seen = await change_count(store)
            await order_gate(store, gate(GateState.OPEN, batch=batch))
            assert await after(store, seen) > seen

    async def test_new_limits_raise_the_count(self, store: Store) -> None:
        seen = await change_count(store)
        await store.control.configure(QUEUE, Limits(rate=1))
        assert await after(store, seen) > seen

    async def test_other_queues_do_not_change_the_count(self, store: Store) -> None:
        seen = await change_count(store)
        await add_jobs(store, [sample_job(queue="reminders")])
        await store.control.configure("reminders", Limits())
        assert await change_count(store) == seen

    async def test_a_wait_without_a_change_ends_at_until(self, store: Store) -> None:
        seen = await change_count(store)
        until = store.clock.now() + timedelta(milliseconds=120)
        with anyio.fail_after(30):
            while store.clock.now() < until:
                assert await store.jobs.wait(QUEUE, seen=seen, until=until) == seen
            assert await store.jobs.wait(QUEUE, seen=seen, until=until) == seen

    async def test_an_enqueue_wakes_all_waiting_tasks(self, store: Store) -> None:
        seen = await change_count(store)
        counts: list[int] = []

        async def wait() -> None:
            counts.append(await after(store, seen))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await add_jobs(store, [sample_job()])
        assert len(counts) == 5
        assert min(counts) > seen

    async def test_an_enqueue_by_another_worker_wakes_a_waiting_task(self, store: Store, other: Store) -> None:
        seen = await change_count(store)
        counts: list[int] = []

        async def wait() -> None:
            counts.append(await after(store, seen))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0.06)
            await add_jobs(other, [sample_job()])
        assert counts[0] > seen

    async def test_a_change_before_the_wait_is_not_missed(self, store: Store, other: Store) -> None:
        seen = await change_count(store)
        assert list(await store.jobs.lease(QUEUE, worker_id="w", limit=1, lease_for=LONG, now=NOW)) == []
        await add_jobs(other, [sample_job()])
        assert await after(store, seen) > seen

    async def test_the_count_is_the_same_for_all_workers(self, store: Store, other: Store) -> None:
        for number in range(3):
            await add_jobs(store, [sample_job(number)])
        assert await change_count(store) == await change_count(other)
