"""The sweep and the pruning keep up with whatever comes together, and leave it to one of several sweepers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.faulty_store import FaultyStore
from voiceflow_worker.backends.contract import NOW, QUEUE, ManualClock, moved, sample_job, sample_jobs
from voiceflow_worker.backends.contract.samples import add_jobs, commit
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.reading import count_states, gates_of
from voiceflow_worker.core.ports.reads import Lapsed, Read
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.core.sweep import IDLE, PAGE, Sweeper
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy

pytestmark = pytest.mark.anyio
MANY = 3 * PAGE + 34
POLICY = CallPolicy()
MINUTE = timedelta(minutes=1)


def sweeper_of(store: Store) -> Sweeper:
    return Sweeper(store, queue=QUEUE, policy=POLICY)


async def count(store: Store) -> Mapping[JobState, int]:
    return {state: number for state, number in (await count_states(store, QUEUE)).items() if number}


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
    await text_records(any_store, "space").put({f"k{number}": "v" for number in range(MANY)}, until=NOW)
    await sweeper_of(any_store).prune()
    assert list(await any_store.events(QUEUE)) == []
    assert await any_store.prune(QUEUE, now=NOW, events_before=NOW, limit=1) == 0


async def test_gates_of_cancelled_batches_without_jobs_go_after_the_retention_and_holds_stay(
    any_store: Store, clock: ManualClock
) -> None:
    long_ago = NOW - POLICY.retention - MINUTE
    clock.jump(NOW - clock.now())
    for batch_id, state, since in [
        ("empty", GateState.CANCELLED, long_ago),
        ("with a job", GateState.CANCELLED, long_ago),
        ("new", GateState.CANCELLED, NOW),
        ("held", GateState.HELD, long_ago),
    ]:
        await order_gate(any_store, Gate.of(QUEUE, batch_id, state, since=since))
    await add_jobs(any_store, [sample_job(1, batch_id="with a job", state=JobState.CANCELLED, due_at=NOW + MINUTE)])
    await sweeper_of(any_store).prune()
    assert sorted(gate.name for gate in await gates_of(any_store, QUEUE)) == ["held", "new", "with a job"]


async def test_a_call_that_comes_back_to_a_cancelled_batch_ends_and_batches_that_are_over_cost_little() -> None:
    clock = ManualClock(NOW)
    memory = MemoryStore(clock=clock)
    store = FaultyStore(memory)
    await add_jobs(memory, sample_jobs(1, batch_id="over", state=JobState.COMPLETED, due_at=NOW + 9 * MINUTE))
    await order_gate(memory, Gate.of(QUEUE, "over", GateState.CANCELLED, since=NOW))
    sweeper = sweeper_of(store)
    for _ in range(int(IDLE)):
        await sweeper.sweep()
        clock.advance(timedelta(seconds=1))
    assert store.made["totals"] == 1
    await add_jobs(memory, [sample_job(2, batch_id="over")])
    assert (await sweeper.sweep()).cancelled == 1


class Rival(MemoryStore):
    """A store in which somebody else moves whatever a sweep has found to be late."""

    finds = 0

    async def jobs(self, read: Read, *, now: datetime) -> Sequence[Job]:
        found = await super().jobs(read, now=now)
        if found and isinstance(read, Lapsed):
            self.finds += 1
            await commit(self, [moved(job, state=JobState.EXPIRED) for job in found])
        return found


async def test_who_comes_second_leaves_the_rest_to_the_first() -> None:
    rival = Rival(clock=ManualClock(NOW))
    await add_jobs(rival, sample_jobs(MANY, valid_until=NOW))
    assert (await sweeper_of(rival).sweep()).expired == 0
    assert rival.finds == 1
