"""Retention runs for the whole store: queues without a worker, calls in doubt, and journal files of the host."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from tests.contract.suite import ManualClock
from tests.support.engine import Engine
from tests.support.flows import flow
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallPolicy, CallQueue, JobState
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.core import sweep
from voiceflow_worker.core.heartbeats import Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import QueueNames
from voiceflow_worker.core.ports.reading import count_states
from voiceflow_worker.core.retention import EVERY, Retention
from voiceflow_worker.core.settling.reconcile import TIMEOUT
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.lifecycle import OLD_DOUBT

pytestmark = pytest.mark.anyio
POLICY = CallPolicy()
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
    any_store: Store, voice: ScriptedVoice, clock: ManualClock, has_worker: bool
) -> None:
    engine = Engine(any_store, voice, policy=POLICY)
    await engine.enqueue()
    await engine.send()
    for waited, becomes in ((POLICY.summary_deadline + TIMEOUT / 2, "submitted"), (TIMEOUT, "accepted")):
        clock.jump(waited)
        if has_worker:  # which reads the log, and ends the call itself
            beat = WorkerBeat(worker_id="w", queue="default", rate=0, in_flight=0)
            await Heartbeats(any_store).worker(beat)
        await retained(any_store)
        assert await states(any_store, "default") == {"submitted" if has_worker else becomes: 1}


async def test_a_doubt_that_nobody_resolves_ends_as_placed_with_its_reason_and_is_deleted_later(
    any_store: Store, voice: ScriptedVoice, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PAGE", 5)
    engine = Engine(any_store, voice, policy=POLICY)
    voice.answers = [unknown()] * CALLS
    for place in range(CALLS):
        await engine.enqueue(f"+65876{place:05}", unique_key=f"key-{place}")
    while await engine.send(limit=100):
        await engine.queue.resume()  # doubts in a row hold it
    assert await states(any_store, "default") == {"in_doubt": CALLS}
    clock.jump(POLICY.retention - timedelta(hours=1))
    await retained(any_store)
    assert await states(any_store, "default") == {"in_doubt": CALLS}
    clock.jump(timedelta(hours=2))
    await retained(any_store)
    assert await states(any_store, "default") == {"accepted": CALLS}
    (one,) = await engine.queue.find(limit=1)
    assert (one.reason or "").startswith(OLD_DOUBT)
    assert [event.state for event in await any_store.events("default")][-1] is JobState.ACCEPTED
    clock.jump(POLICY.retention + timedelta(hours=1))
    await retained(any_store)
    assert await states(any_store, "default") == {}
    await engine.enqueue("+6587600000", unique_key="key-0")
    assert await states(any_store, "default") == {}


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


async def test_journal_files_of_a_queue_without_a_worker_are_deleted_too(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    await QueueNames(store).remember("gone")
    files = JournalFiles(tmp_path / "journals")
    (await files.begin("gone", "w")).close()
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
