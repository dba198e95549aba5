"""The contract of `Jobs.lease`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import (
    NOW,
    QUEUE,
    add_jobs,
    at_once,
    commit,
    enqueued,
    gate,
    moved,
    numbers,
    sample_job,
    sample_jobs,
)
from voiceflow_worker.core.ports import Limits, Query, Store
from voiceflow_worker.core.settling.gates import order_gate
from voiceflow_worker.model.jobs.admission import PRIORITIES
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import Job, JobState

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)


async def lease(
    store: Store, limit: int = 10, *, at: datetime = NOW, batch_id: str | None = None, queue: str = QUEUE
) -> Sequence[Job]:
    return await store.jobs.lease(queue, worker_id="worker-1", limit=limit, lease_for=MINUTE, now=at, batch_id=batch_id)


class LeaseContract(Ground):
    """Tests of the leasing of due jobs."""

    async def test_a_leased_job_belongs_to_the_worker_until_the_lease_ends(self, store: Store) -> None:
        job = await enqueued(store, batch_id="b", unique_key="k", valid_until=NOW + MINUTE, reason="why")
        [leased] = await lease(store)
        assert leased == replace(
            job, state=JobState.LEASED, worker_id="worker-1", due_at=NOW + MINUTE, revision=leased.revision
        )
        assert leased.revision != job.revision
        assert (await store.jobs.get([job.id]))[job.id] == leased

    async def test_a_leased_job_is_not_leased_again(self, store: Store) -> None:
        await add_jobs(store, [sample_job()])
        await lease(store)
        assert list(await lease(store, at=NOW + timedelta(days=1))) == []

    async def test_priorities_are_exact_over_the_whole_range(self, store: Store) -> None:
        wanted = [PRIORITIES[-1], PRIORITIES[-1] - 1, 1, 0, -1, PRIORITIES[0] + 1, PRIORITIES[0]]
        # The least urgent is due first: only the priority puts them in this order.
        jobs = [
            sample_job(place, priority=priority, due_at=NOW - place * SECOND) for place, priority in enumerate(wanted)
        ]
        await add_jobs(store, jobs[::-1])
        leased = [job for _ in wanted for job in await lease(store, limit=1)]
        assert [job.priority for job in leased] == wanted

    async def test_a_lease_refuses_moves_from_an_older_revision(self, store: Store) -> None:
        job = await enqueued(store)
        [leased] = await lease(store)
        assert await commit(store, [moved(job, state=JobState.CANCELLED)]) == [False]
        assert await commit(store, [moved(leased, state=JobState.SENDING)]) == [True]

    async def test_every_leased_job_has_its_own_revision(self, store: Store) -> None:
        await add_jobs(store, sample_jobs(20))
        leased = [*await lease(store), *await lease(store)]
        assert len({job.revision for job in leased}) == 20

    async def test_only_due_jobs_are_leased(self, store: Store) -> None:
        late = sample_job(2, due_at=NOW + MICROSECOND)
        await add_jobs(store, [sample_job(1), late, sample_job(3, due_at=NOW - MINUTE)])
        assert numbers(await lease(store)) == [3, 1]
        assert numbers(await lease(store, at=NOW + MICROSECOND)) == [2]

    @pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.QUEUED])
    async def test_only_queued_jobs_are_leased(self, store: Store, state: JobState) -> None:
        await add_jobs(store, [sample_job(state=state)])
        assert list(await lease(store)) == []

    async def test_jobs_are_leased_by_priority_then_due_time_then_id(self, store: Store) -> None:
        jobs = [
            sample_job(1, priority=0, due_at=NOW - 2 * SECOND),
            sample_job(2, priority=0, due_at=NOW - 3 * SECOND),
            sample_job(3, priority=9, due_at=NOW),
            sample_job(4, priority=-1, due_at=NOW - MINUTE),
            sample_job(5, priority=9, due_at=NOW - SECOND),
            sample_job(6, priority=0, due_at=NOW - 2 * SECOND),
        ]
        await add_jobs(store, jobs)
        taken = [number for _ in range(3) for number in numbers(await lease(store, 2))]
        assert taken == [5, 3, 2, 1, 6, 4]

    async def test_urgent_jobs_that_are_not_due_block_no_others(self, store: Store) -> None:
        later = [sample_job(number, priority=9, due_at=NOW + MINUTE) for number in range(1, 50)]
        await add_jobs(store, [*later, sample_job(50)])
        assert numbers(await lease(store, 1)) == [50]

    @pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (3, 3), (100, 5)])
    async def test_a_lease_gives_at_most_limit_jobs(self, store: Store, limit: int, expected: int) -> None:
        await add_jobs(store, sample_jobs(5))
        assert numbers(await lease(store, limit)) == list(range(1, expected + 1))

    async def test_expired_jobs_are_not_leased(self, store: Store) -> None:
        jobs = [
            sample_job(1, valid_until=NOW - MINUTE),
            sample_job(2, valid_until=NOW),
            sample_job(3, valid_until=NOW + MICROSECOND),
        ]
        await add_jobs(store, jobs)
        assert numbers(await lease(store)) == [3]
        assert (await store.jobs.count(QUEUE))[JobState.QUEUED] == 2

    async def test_a_job_that_is_queued_again_is_leased_when_due(self, store: Store) -> None:
        await add_jobs(store, [sample_job()])
        [leased] = await lease(store)
        back = moved(leased, state=JobState.QUEUED, worker_id=None, due_at=NOW + MINUTE)
        await commit(store, [back])
        assert list(await lease(store)) == []
        [again] = await lease(store, at=NOW + MINUTE)
        assert again.revision not in {leased.revision, back.new.revision}

    async def test_a_lease_takes_jobs_of_its_queue_only(self, store: Store) -> None:
        await add_jobs(store, [sample_job(1, queue="reminders")])
        assert list(await lease(store)) == []
        assert numbers(await lease(store, queue="reminders")) == [1]

    async def test_a_lease_can_be_limited_to_a_batch(self, store: Store) -> None:
        jobs = [sample_job(number, batch_id="ab"[number % 2], priority=number) for number in range(1, 7)]
        await add_jobs(store, [*jobs, sample_job(7)])
        assert numbers(await lease(store, batch_id="b")) == [5, 3, 1]
        assert list(await lease(store, batch_id="none")) == []

    async def test_a_held_queue_gives_no_jobs_until_it_is_opened(self, store: Store) -> None:
        await add_jobs(store, sample_jobs(1))
        await order_gate(store, gate(GateState.HELD))
        assert list(await lease(store, at=NOW + timedelta(days=365))) == []
        await order_gate(store, gate(GateState.OPEN))
        assert numbers(await lease(store)) == [1]

    async def test_a_hold_ends_at_its_time(self, store: Store) -> None:
        await add_jobs(store, sample_jobs(1))
        await order_gate(store, gate(GateState.HELD, until=NOW + SECOND))
        assert list(await lease(store, at=NOW + SECOND - MICROSECOND)) == []
        assert numbers(await lease(store, at=NOW + SECOND)) == [1]

    @pytest.mark.parametrize("state", [GateState.HELD, GateState.CANCELLED])
    async def test_a_closed_batch_gives_no_jobs_and_blocks_no_others(self, store: Store, state: GateState) -> None:
        jobs = [sample_job(1, batch_id="closed"), sample_job(2, batch_id="open"), sample_job(3)]
        await add_jobs(store, jobs)
        await order_gate(store, gate(state, batch="closed"))
        assert list(await lease(store, batch_id="closed")) == []
        assert numbers(await lease(store)) == [2, 3]

    async def test_a_batch_that_is_opened_gives_jobs_again(self, store: Store) -> None:
        await add_jobs(store, [sample_job(batch_id="b")])
        await order_gate(store, gate(GateState.HELD, batch="b", until=NOW + MINUTE))
        assert list(await lease(store)) == []
        await order_gate(store, gate(GateState.OPEN, batch="b", since=NOW + SECOND))
        assert numbers(await lease(store, at=NOW + SECOND)) == [1]

    async def test_jobs_behind_a_large_closed_batch_are_leased_in_order(self, store: Store) -> None:
        closed = [sample_job(number, batch_id="closed", priority=9) for number in range(1, 3001)]
        behind = [
            sample_job(3001, priority=1, due_at=NOW - SECOND),
            sample_job(3002, priority=1, batch_id="a", due_at=NOW - MINUTE),
            sample_job(3003, priority=5, batch_id="b"),
            sample_job(3004, priority=5, batch_id="a", valid_until=NOW),
            sample_job(3005, priority=0, batch_id="b"),
            sample_job(3006, priority=7, batch_id="held"),
        ]
        await add_jobs(store, [*closed, *behind])
        await order_gate(store, gate(GateState.HELD, batch="closed"))
        await order_gate(store, gate(GateState.HELD, batch="held"))
        assert numbers(await lease(store, 2)) == [3003, 3002]
        assert numbers(await lease(store)) == [3001, 3005]

    async def test_many_closed_batches_block_no_others_and_open_again(self, store: Store, other: Store) -> None:
        jobs = [sample_job(number, batch_id=f"b{number}", due_at=NOW - MINUTE) for number in range(1, 61)]
        await add_jobs(store, [*jobs, sample_job(100), sample_job(101)])
        for number in range(1, 41):
            until = NOW + MINUTE if number > 20 else None
            await order_gate(store, gate(GateState.HELD, batch=f"b{number}", until=until))
        assert numbers(await lease(store, 21)) == [*range(41, 61), 100]
        assert numbers(await lease(store, at=NOW + MINUTE - MICROSECOND)) == [101]
        await add_jobs(store, [sample_job(200, batch_id="b7", due_at=NOW - 2 * MINUTE)])
        await order_gate(other, gate(GateState.OPEN, batch="b30", since=NOW + SECOND))
        assert numbers(await lease(store)) == [30]
        await order_gate(other, gate(GateState.OPEN, batch="b7", since=NOW + SECOND))
        assert numbers(await lease(store)) == [200, 7]
        assert numbers(await lease(store, 100, at=NOW + MINUTE)) == [*range(21, 30), *range(31, 41)]

    async def test_many_expired_jobs_block_no_others(self, store: Store) -> None:
        late = [
            sample_job(number, valid_until=NOW, due_at=NOW - MINUTE, priority=number % 2) for number in range(1, 1201)
        ]
        await add_jobs(store, [*late, sample_job(1201), sample_job(1202, due_at=NOW + SECOND)], now=NOW - MINUTE)
        assert numbers(await lease(store)) == [1201]
        assert numbers(await lease(store, at=NOW + SECOND)) == [1202]
        assert (await store.jobs.count(QUEUE))[JobState.QUEUED] == 1200
        # A call must still be made in its time after a clock had jumped ahead for a moment.
        assert numbers(await lease(store, 3, at=NOW - MINUTE)) == [1, 3, 5]

    async def test_jobs_of_many_batches_and_priorities_are_leased_in_one_order(self, store: Store) -> None:
        jobs = [
            sample_job(
                number, batch_id=f"b{number % 7}" if number % 5 else None, priority=number * 31 % 11 - 5,
                due_at=NOW + (number * 7919 % 13 - 6) * SECOND,
            )
            for number in range(1, 301)
        ]  # fmt: skip
        await add_jobs(store, jobs)
        for at, limit in ((NOW - 3 * SECOND, 40), (NOW, 60), (NOW + MINUTE, 300)):
            waiting = [job for job in await store.jobs.find(Query(queue=QUEUE, limit=None)) if job.due_at <= at]
            due = [job for job in waiting if job.state is JobState.QUEUED]
            order = sorted(due, key=lambda job: (-job.priority, job.due_at, job.id))
            assert [job.id for job in await lease(store, limit, at=at)] == [job.id for job in order[:limit]]

    async def test_max_active_limits_the_open_calls(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(max_active=3))
        await add_jobs(store, sample_jobs(10))
        first = await lease(store, 2)
        assert numbers(first) == [1, 2]
        assert numbers(await lease(store)) == [3]
        assert list(await lease(store)) == []

    async def test_a_sent_call_is_open_until_active_until(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(max_active=1))
        await add_jobs(store, sample_jobs(3))
        [leased] = await lease(store)
        sent = moved(leased, state=JobState.IN_DOUBT, active_until=NOW + MINUTE)
        await commit(store, [sent])
        assert list(await lease(store, at=NOW + MINUTE - MICROSECOND)) == []
        assert numbers(await lease(store, at=NOW + MINUTE)) == [2]

    async def test_a_call_that_ended_is_not_open(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(max_active=1))
        await add_jobs(store, sample_jobs(2))
        [leased] = await lease(store)
        sent = moved(leased, state=JobState.SUBMITTED, active_until=NOW + MINUTE)
        await commit(store, [sent])
        await commit(store, [moved(sent.new, state=JobState.COMPLETED, active_until=None)])
        assert numbers(await lease(store)) == [2]

    async def test_a_leased_call_with_active_until_counts_once(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(max_active=2))
        await add_jobs(store, sample_jobs(3))
        [leased] = await lease(store, 1)
        await commit(store, [moved(leased, active_until=NOW + MINUTE)])
        assert numbers(await lease(store)) == [2]

    async def test_open_calls_of_other_queues_do_not_count(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(max_active=1))
        await add_jobs(store, [sample_job(1, queue="reminders"), sample_job(2)])
        await lease(store, queue="reminders")
        assert numbers(await lease(store)) == [2]

    async def test_a_lower_max_active_gives_no_jobs_until_calls_end(self, store: Store) -> None:
        await add_jobs(store, sample_jobs(5))
        await lease(store, 3)
        await store.control.configure(QUEUE, Limits(max_active=1))
        assert list(await lease(store)) == []
        await store.control.configure(QUEUE, Limits(max_active=None))
        assert numbers(await lease(store)) == [4, 5]

    async def test_concurrent_leases_never_share_a_job(self, store: Store, other: Store) -> None:
        await add_jobs(store, sample_jobs(300))
        taken: list[int] = []

        async def take(handle: Store, _number: int) -> None:
            while jobs := await lease(handle, 7):
                taken.extend(numbers(jobs))

        await at_once(16, take, store, other)
        assert sorted(taken) == list(range(1, 301))

    async def test_concurrent_leases_keep_to_max_active(self, store: Store, other: Store) -> None:
        await store.control.configure(QUEUE, Limits(max_active=10))
        await add_jobs(store, sample_jobs(50))
        taken: list[int] = []

        async def take(handle: Store, _number: int) -> None:
            taken.extend(numbers(await lease(handle, 4)))

        await at_once(10, take, store, other)
        assert sorted(taken) == list(range(1, 11))
