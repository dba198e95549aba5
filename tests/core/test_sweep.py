"""The sweep, its duties and the retention of the whole store keep up with whatever comes, without a worker too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.samples import add_jobs, commit
from tests.contract.suite import NOW, QUEUE, ManualClock, moved, sample_job, sample_jobs
from tests.support.engine import ScriptedEngine
from tests.support.faulty_store import FaultyStore, StoreCall, nothing
from tests.support.flows import flow, number
from tests.support.stores import clocked
from tests.support.voices import unknown
from voiceflow_worker import CallPolicy, CallQueue, Job, JobState
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core import sweep
from voiceflow_worker.core.base.background import BackgroundTasks
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import count_states, gates_at, gates_of
from voiceflow_worker.core.base.record_set import text_records, unreadable_here
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.heartbeats import Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.reads import Due, Expired, Read
from voiceflow_worker.core.retention import EVERY, Retention
from voiceflow_worker.core.settling.reconcile import TIMEOUT
from voiceflow_worker.core.sweep import PAGE, Sweeper
from voiceflow_worker.errors import (
    InvalidInputError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
)
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.lifecycle import OLD_DOUBT

pytestmark = pytest.mark.anyio

MANY = 3 * PAGE + 34
POLICY = CallPolicy()
MINUTE = timedelta(minutes=1)


def sweeper_of(store: Store) -> Sweeper:
    return Sweeper(store, queue=QUEUE, policy=POLICY)


async def count(store: Store) -> Mapping[JobState, int]:
    return {state: number for state, number in (await count_states(store, QUEUE)).items() if number}


CANCELLED = Gate.of(QUEUE, "cancelled", GateState.CANCELLED, since=NOW)


@pytest.mark.parametrize(
    ("fields", "becomes"),
    [
        ({"valid_until": NOW}, JobState.EXPIRED),
        ({"state": JobState.LEASED, "worker_id": "w"}, JobState.QUEUED),
        ({"batch_id": "cancelled"}, JobState.CANCELLED),
    ],
    ids=["expired", "leases that ended", "a cancelled batch"],
)
async def test_one_sweep_moves_all_that_is_overdue(any_store: Store, fields: dict[str, Any], becomes: JobState) -> None:
    await add_jobs(any_store, sample_jobs(MANY, **fields))
    await order_gate(any_store, CANCELLED)
    await sweeper_of(any_store).sweep()
    assert await count(any_store) == {becomes: MANY}


async def test_cancelled_batches_end_also_where_the_leases_of_a_dead_worker_are_over(any_store: Store) -> None:
    leased = sample_jobs(MANY, batch_id="cancelled", state=JobState.LEASED, worker_id="w")
    others = [sample_job(MANY + 1, state=JobState.SUBMITTED), sample_job(MANY + 2, valid_until=NOW)]
    await add_jobs(any_store, [*leased, *others])
    await order_gate(any_store, CANCELLED)
    assert await sweeper_of(any_store).end_cancelled() == MANY
    assert await count(any_store) == {JobState.CANCELLED: MANY, JobState.SUBMITTED: 1, JobState.QUEUED: 1}


async def test_one_pruning_deletes_all_that_is_old_with_its_events_and_records(any_store: Store) -> None:
    old, at = sample_jobs(MANY), NOW - POLICY.retention - MINUTE
    await add_jobs(any_store, [*old, sample_job(MANY + 1, state=JobState.COMPLETED, due_at=NOW + MINUTE)])
    ended = [Event(job_id=job.id, kind=EventKind.ENDED, at=at, state=job.state, revision="r") for job in old]
    moves = [moved(job, event, state=JobState.COMPLETED) for job, event in zip(old, ended, strict=True)]
    await commit(any_store, moves)
    await text_records(any_store, "space").put({f"k{number}": "v" for number in range(MANY)}, until=NOW)
    assert await sweeper_of(any_store).prune() == MANY
    assert await count(any_store) == {JobState.COMPLETED: 1}
    assert list(await any_store.events(QUEUE)) == []
    assert await any_store.prune(QUEUE, now=NOW, events_before=NOW, limit=1) == 0


async def test_the_gate_of_a_cancelled_batch_goes_with_its_last_open_call_and_the_batch_stays_cancelled(
    any_store: Store,
) -> None:
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
            await queue.enqueue(flow(), batch=batch_id)
        assert (await queue.resume(batch_id=batch_id)).state is GateState.CANCELLED
        assert (await queue.hold(batch_id=batch_id, reason="wait")).state is GateState.CANCELLED


async def test_a_call_that_comes_back_to_a_cancelled_batch_never_rings(here: ScriptedEngine) -> None:
    here.voice.answer = lambda _: unknown("ReadTimeout")
    await here.enqueue(number(0), batch="march")
    (job,) = await here.send()
    await here.queue.cancel_batch("march")
    here.clock.advance(timedelta(minutes=5))  # 8x8 may place it no more
    await here.queue.resolve(job.id, placed=False, note="not in the log")
    await sweeper_of(here.store).sweep()
    await here.send()
    assert (len(here.voice.placed), await here.state(job)) == (1, "cancelled")


async def test_an_enqueue_that_began_before_the_batch_was_cancelled_stores_nothing_after_it(any_store: Store) -> None:
    queue = CallQueue(any_store, QUEUE)
    await queue.enqueue(flow(number(0)), batch="march")

    async def cancel(call: StoreCall) -> None:
        if call.name == "write":
            await queue.cancel_batch("march")

    late = CallQueue(FaultyStore(any_store, before=cancel), QUEUE)
    with pytest.raises(InvalidInputError, match="batch march was cancelled"):
        await late.enqueue(flow(number(1)), batch="march")
    assert (await count_states(any_store, QUEUE, batch_id="march"))[JobState.CANCELLED] == 1


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


DUTIES: dict[str, Callable[[Any], bool]] = {
    "leased": lambda read: isinstance(read, Due) and read.state is JobState.LEASED,
    "sending": lambda read: isinstance(read, Due) and read.state is JobState.SENDING,
    "submitted": lambda read: isinstance(read, Due) and read.state is JobState.SUBMITTED,
    "queued": lambda read: isinstance(read, Expired),
}
"""The reads of the duties, by the state of the calls that each looks for."""
ERRORS = (RuntimeError("a mistake"), StoreUnavailableError("away"), StoreError("refused"), SettingsError("changed"))


faulty = clocked("memory", within=FaultyStore)


async def done_with(faulty: FaultyStore) -> set[str]:
    """The states in which no call is left, or has expired."""
    states = await count_states(faulty, QUEUE)
    return {name for name in DUTIES if not states[JobState(name)] or (name == "queued" and states[JobState.EXPIRED])}


async def fails_at(faulty: FaultyStore, failing: str, error: Exception) -> None:
    """There is one overdue call in each state that the sweep looks at, and one of its duties fails."""
    await add_jobs(faulty, [
        sample_job(1, state=JobState.LEASED, worker_id="w"), sample_job(2, state=JobState.SENDING, worker_id="w"),
        sample_job(3, state=JobState.SUBMITTED), sample_job(4, valid_until=NOW),
    ])  # fmt: skip

    async def fails(call: StoreCall) -> None:
        if call.name == "jobs" and DUTIES[failing](call.arguments[0]):
            raise error

    faulty.before = fails


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("failing", DUTIES)
@pytest.mark.parametrize("is_by_other", [False, True])
async def test_a_duty_that_fails_keeps_no_other_from_being_done(
    faulty: FaultyStore, clock: ManualClock, failing: str, error: Exception, *, is_by_other: bool
) -> None:
    """What it could not do is done by the next sweep, or by another worker: then nothing fails any more."""
    background = BackgroundTasks(clock)
    await fails_at(faulty, failing, error)
    sweeper = Sweeper(faulty, queue=QUEUE, policy=POLICY, log_timeout=timedelta(0), background=background)
    await sweeper.sweep()
    assert await done_with(faulty) >= DUTIES.keys() - {failing}
    assert sum(background.count.values()) >= 1
    assert len(background.failing) == 1, "the task that fails is named"
    faulty.before = nothing
    if is_by_other:
        await sweeper_of(faulty).sweep()
    await sweeper.sweep()
    assert not background.failing
    assert failing in await done_with(faulty)


async def test_without_parts_the_first_error_is_raised_when_all_is_done(faulty: FaultyStore) -> None:
    await fails_at(faulty, "leased", StoreError("refused"))
    with pytest.raises(StoreError, match="refused"):
        await sweeper_of(faulty).sweep()
    assert await done_with(faulty) >= {"sending", "queued"}


async def test_a_job_that_cannot_be_moved_is_set_aside_and_counted(
    faulty: FaultyStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls beside it on its page move."""
    jobs = [sample_job(number, state=JobState.LEASED, worker_id="w") for number in range(3)]
    await add_jobs(faulty, jobs)
    release = lifecycle.release

    def fails(job: Job, **how: Any) -> Job:
        if job.id == jobs[1].id:
            raise ValueError(f"a record of {job.id} that nobody understands")
        return release(job, **how)

    monkeypatch.setattr(lifecycle, "release", fails)
    before = unreadable_here()
    background = BackgroundTasks(clock)
    for _ in range(2):
        await Sweeper(faulty, queue=QUEUE, policy=POLICY, background=background).sweep()
    states = await count_states(faulty, QUEUE)
    assert (states[JobState.LEASED], states[JobState.QUEUED]) == (1, 2)
    assert unreadable_here() == before + 1, "it is named once"


CALLS = 13
"""More than two pages of a sweep, where a page has five."""


async def states(store: Store, queue: str) -> Mapping[str, int]:
    return {state.value: count for state, count in (await count_states(store, queue)).items() if count}


async def retained(store: Store) -> None:
    """A pass of a process that has just begun; clocks have jumped far enough for the turns of others to be over."""
    await Retention(store, POLICY).run()


async def test_a_queue_without_a_worker_and_without_a_batch_is_known_from_its_first_call_on(any_store: Store) -> None:
    await CallQueue(any_store, "offers").enqueue(flow())
    assert await QueueNames(any_store).known() == ["offers"]


async def test_calls_of_a_queue_without_a_worker_end_and_are_deleted(any_store: Store, clock: ManualClock) -> None:
    queue = CallQueue(any_store, "offers", policy=POLICY)
    await queue.enqueue(flow(), valid_for=timedelta(hours=1))
    await queue.cancel((await queue.enqueue(flow("+6587654322"))).id)
    stays = await queue.enqueue(flow("+6587654323"))
    clock.jump(2 * timedelta(hours=1))
    await retained(any_store)
    assert await states(any_store, "offers") == {"expired": 1, "cancelled": 1, "queued": 1}
    clock.jump(POLICY.retention)
    await retained(any_store)
    assert await states(any_store, "offers") == {"queued": 1}
    assert (await queue.get(stays.id)).state is JobState.QUEUED


@pytest.mark.parametrize("has_worker", [False, True])
async def test_an_overdue_summary_is_waited_for_as_a_worker_of_the_queue_would(
    here: ScriptedEngine, has_worker: bool
) -> None:
    await here.enqueue()
    await here.send()
    for waited, becomes in ((POLICY.summary_deadline + TIMEOUT / 2, "submitted"), (TIMEOUT, "accepted")):
        here.clock.jump(waited)
        if has_worker:  # which reads the log, and ends the call itself
            beat = WorkerBeat(worker_id="w", queue="default", rate=0, in_flight=0)
            await Heartbeats(here.store).worker(beat)
        await retained(here.store)
        assert await states(here.store, "default") == {"submitted" if has_worker else becomes: 1}


async def test_a_doubt_that_nobody_resolves_ends_as_placed_with_its_reason_and_is_deleted_later(
    here: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PAGE", 5)
    here.voice.answers = [unknown()] * CALLS
    for place in range(CALLS):
        await here.enqueue(f"+65876{place:05}", unique_key=f"key-{place}")
    while await here.send(limit=100):
        await here.queue.resume()  # doubts in a row hold it
    assert await states(here.store, "default") == {"in_doubt": CALLS}
    here.clock.jump(POLICY.retention - timedelta(hours=1))
    await retained(here.store)
    assert await states(here.store, "default") == {"in_doubt": CALLS}
    here.clock.jump(timedelta(hours=2))
    await retained(here.store)
    assert await states(here.store, "default") == {"accepted": CALLS}
    (one,) = await here.queue.find(limit=1)
    assert (one.reason or "").startswith(OLD_DOUBT)
    assert [event.state for event in await here.store.events("default")][-1] is JobState.ACCEPTED
    here.clock.jump(POLICY.retention + timedelta(hours=1))
    await retained(here.store)
    assert await states(here.store, "default") == {}
    await here.enqueue("+6587600000", unique_key="key-0")
    assert await states(here.store, "default") == {}


async def test_one_process_at_a_time_does_it_and_a_queue_that_cannot_be_read_keeps_no_other_from_it(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        queue = CallQueue(store, name, policy=POLICY)
        await queue.cancel((await queue.enqueue(flow())).id)
    clock.jump(POLICY.retention + timedelta(hours=1))
    prune = Sweeper.prune

    async def fails_for_a(self: Sweeper) -> int:
        if self._queue == "a":
            raise StoreUnavailableError("odd")
        return await prune(self)

    monkeypatch.setattr(Sweeper, "prune", fails_for_a)
    with pytest.raises(StoreUnavailableError, match="odd"):
        await Retention(store, POLICY).run()
    assert (await states(store, "a"), await states(store, "b")) == ({"cancelled": 1}, {})
    monkeypatch.undo()
    await Retention(store, POLICY).run()  # its turn is not over
    assert await states(store, "a") == {"cancelled": 1}
    clock.advance(EVERY)
    await Retention(store, POLICY).run()
    assert await states(store, "a") == {}


async def test_journal_files_of_a_queue_without_a_worker_are_deleted_too(store: Store, tmp_path: Path) -> None:
    await QueueNames(store).remember("gone")
    files = JournalFiles(tmp_path / "journals")
    (await files.begin("gone", at=store.clock.now() - timedelta(days=30))).close()
    assert await files.files("gone")
    await Retention(store, POLICY, local_journal=files).run()
    assert not await files.files("gone")


async def test_an_ended_call_is_deleted_within_a_minute_of_the_retention_that_was_set_when_it_ended(
    any_store: Store, clock: ManualClock
) -> None:
    short = CallPolicy(retention=timedelta(days=7))
    for policy in (short, POLICY):
        queue = CallQueue(any_store, "offers", policy=policy)
        await queue.cancel((await queue.enqueue(flow(f"+658765432{policy.retention.days // 10}"))).id)
    for after, left in [
        (timedelta(days=7) - EVERY, 2),
        (2 * EVERY, 1),
        (timedelta(days=23) - 2 * EVERY, 1),
        (2 * EVERY, 0),
    ]:
        clock.jump(after)
        assert sum((await states(any_store, "offers")).values()) >= left, "nothing goes by itself"
        await retained(any_store)
        assert sum((await states(any_store, "offers")).values()) == left
