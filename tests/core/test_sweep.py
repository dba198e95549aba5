"""The sweep and the pruning keep up with whatever comes together, and leave it to one of several sweepers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.contract.samples import add_jobs, commit
from tests.contract.suite import NOW, QUEUE, ManualClock, moved, sample_job, sample_jobs
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallQueue
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.base.reading import count_states, gates_at, gates_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.reads import Expired, Read
from voiceflow_worker.core.sweep import PAGE, Sweeper
from voiceflow_worker.errors import InvalidInputError
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


async def test_the_gate_of_a_cancelled_batch_goes_with_its_last_open_call_and_the_batch_stays_cancelled(
    any_store: Store, clock: ManualClock
) -> None:
    clock.jump(NOW - clock.now())
    for batch_id, state in [("empty", "cancelled"), ("ended", "cancelled"), ("open", "cancelled"), ("held", "held")]:
        await order_gate(any_store, Gate.of(QUEUE, batch_id, GateState(state), since=NOW))
    later = NOW + timedelta(hours=1)
    await add_jobs(any_store, [sample_job(1, batch_id="ended", state=JobState.CANCELLED, due_at=later)])
    await add_jobs(any_store, [sample_job(2, batch_id="open", state=JobState.SUBMITTED, due_at=later)])
    await sweeper_of(any_store).sweep()
    assert sorted(gate.name for gate in await gates_of(any_store, QUEUE)) == ["held", "open"]
    assert {*await gates_at(any_store, QUEUE, ["empty", "ended", "open", "other"])} == {"empty", "ended", "open"}
    queue = CallQueue(any_store, QUEUE)
    for batch_id in ("empty", "ended", "open"):
        with pytest.raises(InvalidInputError, match=f"batch {batch_id} was cancelled"):
            await queue.enqueue(flow(), batch_id=batch_id)
        assert (await queue.resume(batch_id=batch_id)).state is GateState.CANCELLED
        assert (await queue.hold(batch_id=batch_id, reason="wait")).state is GateState.CANCELLED


async def test_a_call_that_comes_back_to_a_cancelled_batch_never_rings(any_store: Store, clock: ManualClock) -> None:
    voice = ScriptedVoice(answer=lambda _: unknown("ReadTimeout"))
    engine = Engine(any_store, voice)
    await engine.enqueue(number(0), batch_id="march")
    (job,) = await engine.send()
    await engine.queue.cancel_batch("march")
    clock.advance(timedelta(minutes=5))  # 8x8 may place it no more
    await engine.queue.resolve(job.id, placed=False, note="not in the log")
    await sweeper_of(any_store).sweep()
    await engine.send()
    assert (len(voice.placed), await engine.state(job)) == (1, "cancelled")


async def test_an_enqueue_that_began_before_the_batch_was_cancelled_stores_nothing_after_it(
    any_store: Store, clock: ManualClock
) -> None:
    queue = CallQueue(any_store, QUEUE)
    await queue.enqueue(flow(number(0)), batch_id="march")

    async def cancel(call: StoreCall) -> None:
        if call.name == "write":
            await queue.cancel_batch("march")

    late = CallQueue(FaultyStore(any_store, before=cancel), QUEUE)
    with pytest.raises(InvalidInputError, match="batch march was cancelled"):
        await late.enqueue(flow(number(1)), batch_id="march")
    assert (await count_states(any_store, QUEUE, batch_id="march"))[JobState.CANCELLED] == 1


async def test_a_sweep_costs_the_same_after_many_batches_were_cancelled() -> None:
    costs: list[int] = []
    for amount in (1, 400):
        store = FaultyStore(MemoryStore(clock=ManualClock(NOW)))
        for place in range(amount):
            await order_gate(store, Gate.of(QUEUE, f"b{place}", GateState.CANCELLED, since=NOW))
        sweeper = sweeper_of(store)
        await sweeper.sweep()
        before = store.made.total()
        await sweeper.sweep()
        costs.append(store.made.total() - before)
        assert await gates_of(store, QUEUE) == []
    assert costs[0] == costs[1]


class Rival(MemoryStore):
    """A store in which somebody else moves whatever a sweep has found to be late."""

    finds = 0

    async def jobs(self, read: Read, *, now: datetime) -> Sequence[Job]:
        found = await super().jobs(read, now=now)
        if found and isinstance(read, Expired):
            self.finds += 1
            await commit(self, [moved(job, state=JobState.EXPIRED) for job in found])
        return found


async def test_who_comes_second_leaves_the_rest_to_the_first() -> None:
    rival = Rival(clock=ManualClock(NOW))
    await add_jobs(rival, sample_jobs(MANY, valid_until=NOW))
    await sweeper_of(rival).sweep()
    assert rival.finds == 1
