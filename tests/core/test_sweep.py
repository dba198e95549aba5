"""The sweep and the pruning keep up with whatever comes together, and leave it to one of several sweepers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from voiceflow_worker.backends.contract import NOW, QUEUE, ManualClock, moved, sample_job, sample_jobs
from voiceflow_worker.backends.contract.samples import add_jobs, commit
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.ports import Event, EventKind, Query, Store
from voiceflow_worker.core.settling.gates import order_gate
from voiceflow_worker.core.sweep import PAGE, Sweeper
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy

pytestmark = pytest.mark.anyio
MANY = 12 * PAGE + 34
POLICY = CallPolicy()
MINUTE = timedelta(minutes=1)


def sweeper_of(store: Store) -> Sweeper:
    return Sweeper(store, queue=QUEUE, policy=POLICY)


async def count(store: Store) -> Mapping[JobState, int]:
    return {state: number for state, number in (await store.jobs.count(QUEUE)).items() if number}


@pytest.mark.parametrize(
    ("fields", "becomes"),
    [
        ({"valid_until": NOW}, JobState.EXPIRED),
        ({"state": JobState.LEASED, "worker_id": "w"}, JobState.QUEUED),
        ({"batch_id": "cancelled"}, JobState.CANCELLED),
    ],
    ids=["expired", "leases that ended", "a cancelled batch"],
)
async def test_one_sweep_moves_all_that_is_overdue(
    any_store: Store, clock: ManualClock, fields: dict[str, Any], becomes: JobState
) -> None:
    clock.jump(NOW - clock.now())
    await add_jobs(any_store, sample_jobs(MANY, **fields))
    await order_gate(
        any_store, Gate(queue=QUEUE, scope=GateScope.BATCH, name="cancelled", state=GateState.CANCELLED, since=NOW)
    )
    await sweeper_of(any_store).sweep()
    assert await count(any_store) == {becomes: MANY}


async def test_cancelled_batches_end_also_where_the_leases_of_a_dead_worker_are_over(
    any_store: Store, clock: ManualClock
) -> None:
    clock.jump(NOW - clock.now())
    await add_jobs(
        any_store,
        [
            *sample_jobs(MANY, batch_id="cancelled", state=JobState.LEASED, worker_id="w"),
            sample_job(MANY + 1, state=JobState.SUBMITTED),
            sample_job(MANY + 2, valid_until=NOW),
        ],
    )
    await order_gate(
        any_store, Gate(queue=QUEUE, scope=GateScope.BATCH, name="cancelled", state=GateState.CANCELLED, since=NOW)
    )
    assert await sweeper_of(any_store).end_cancelled() == MANY
    assert await count(any_store) == {JobState.CANCELLED: MANY, JobState.SUBMITTED: 1, JobState.QUEUED: 1}


async def test_one_pruning_deletes_all_that_is_old(any_store: Store, clock: ManualClock) -> None:
    clock.jump(NOW - clock.now())
    old = sample_jobs(MANY, state=JobState.COMPLETED, due_at=NOW)
    young = sample_job(MANY + 1, state=JobState.COMPLETED, due_at=NOW + MINUTE)
    await add_jobs(any_store, [*old, young])
    assert await sweeper_of(any_store).prune() == MANY
    assert await count(any_store) == {JobState.COMPLETED: 1}


async def test_pruning_drops_all_old_events_and_records(any_store: Store, clock: ManualClock) -> None:
    clock.jump(NOW - clock.now())
    jobs = sample_jobs(MANY)
    await add_jobs(any_store, jobs)
    at = NOW - POLICY.retention - MINUTE
    event = [Event(job_id=job.id, kind=EventKind.ENDED, at=at, state=job.state, revision="r") for job in jobs]
    await commit(
        any_store,
        [moved(job, each, state=JobState.LEASED, due_at=NOW + MINUTE) for job, each in zip(jobs, event, strict=True)],
    )
    await any_store.records.put("space", {f"k{number}": "v" for number in range(MANY)}, expires_at=NOW, now=at)
    await sweeper_of(any_store).prune()
    assert list(await any_store.jobs.events(QUEUE)) == []
    assert await any_store.records.prune(now=NOW) == 0


class Rival:
    """Jobs of which somebody else moves whatever a sweep has found to be late."""

    def __init__(self, store: Store) -> None:
        self.store, self.jobs = store, store.jobs
        self.finds = 0

    async def find(self, query: Query) -> Sequence[Job]:
        found = await self.jobs.find(query)
        if found and query.valid_before is not None:
            self.finds += 1
            await commit(self.store, [moved(job, state=JobState.EXPIRED) for job in found])
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.jobs, name)


async def test_who_comes_second_leaves_the_rest_to_the_first() -> None:
    store = MemoryStore(clock=ManualClock(NOW))
    await add_jobs(store, sample_jobs(MANY, valid_until=NOW))
    rival = Rival(store)
    store.jobs = rival  # type: ignore[assignment]
    assert (await sweeper_of(store).sweep()).expired == 0
    assert rival.finds == 1
