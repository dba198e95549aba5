"""Calls whose numbers are locked, checked and journalled in one trip, while a rate is set or the server restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import Job, JobState, open_store
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.backends.witness import JournalFiles
from voiceflow_worker.core.numbers.locks import NAMESPACE as LOCKS
from voiceflow_worker.core.sending.departures import Departures
from voiceflow_worker.core.sending.submit import Flight
from voiceflow_worker.core.settling.voice_check import NamedVoice
from voiceflow_worker.model.reports.verdict import Hold

pytestmark = pytest.mark.anyio
SECOND = timedelta(seconds=1)
TRIES = 4
"""How often a trip to the store is tried."""


class Restarted(FaultyStore):
    """A store whose server can be restarted."""

    run_id = "first"

    async def look(self, queue: str, job_ids: Sequence[str]) -> tuple[str, dict[str, Job]]:  # noqa: ARG002
        return self.run_id, dict(await self.jobs.get(job_ids))


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Restarted]:
    async with open_store(f"sqlite:///{tmp_path / 'calls.db'}", clock=clock) as opened:
        yield Restarted(opened)


async def test_a_call_that_is_journalled_while_a_rate_is_set_leaves_though_the_store_fails(
    store: Restarted, clock: ManualClock
) -> None:
    departures = Departures(store.control, clock, queue="default", rate=None)
    engine = Engine(store, ScriptedVoice(), departures=departures)
    await engine.enqueue()

    async def rate_is_set(call: StoreCall) -> None:
        if call.name == "jobs.commit_locking":
            departures.follow(2)
            store.lose(Loss.BEFORE, "control.take")

    store.after = rate_is_set
    assert [job.state for job in await engine.send()] == [JobState.SUBMITTED]


async def test_a_restart_that_is_noticed_while_a_call_waits_for_its_entry_is_checked_before_the_entry(
    store: Restarted, tmp_path: Path
) -> None:
    class Slow:
        async def speech_profiles(self) -> Sequence[NamedVoice]:
            store.run_id = "second"
            async with anyio.create_task_group() as group:
                group.start_soon(guard.watch)
                while not guard.restarts:
                    await checkpoint()
                group.cancel_scope.cancel()
            return []

    engine = Engine(store, ScriptedVoice(), witness=JournalFiles(tmp_path / "journals"), voices=Slow())
    assert engine.guard is not None
    guard = engine.guard
    await engine.enqueue()
    async with engine.at_work():
        leased = await engine.lease()
        flights, left = await engine.submitter.begin_at_once(leased, leased_at=store.clock.monotonic())
    assert guard.restarts == 1
    assert (flights, left) == ([], leased)
    assert await engine.state(leased[0]) == JobState.LEASED


async def test_a_call_that_has_its_entry_leaves_though_the_end_of_another_of_its_worker_cannot_be_stored(
    store: Restarted, clock: ManualClock, engine: Engine
) -> None:
    await engine.enqueue(number(0))
    await engine.enqueue(number(1), valid_for=SECOND)
    first, expired = sorted(await engine.lease(), key=lambda job: job.destination)
    clock.advance(SECOND)
    begun = list[Flight]()

    async def begin() -> None:
        flights, left = await engine.submitter.begin_at_once([first, expired], leased_at=clock.monotonic())
        assert left == []
        begun.extend(flights)

    store.lose(Loss.BEFORE, "jobs.commit", unless={"jobs.commit_locking"}, times=TRIES)
    async with anyio.create_task_group() as group:
        group.start_soon(begin)
        await tries_pass(store, clock)
    assert [flight.job.id for flight in begun] == [first.id]
    assert await engine.state(expired) == JobState.LEASED


async def tries_pass(store: Restarted, clock: ManualClock) -> None:
    """Let all tries of a trip to the store fail, as `lose` says, with the time between them."""
    for left in range(TRIES - 1, 0, -1):
        while store.still_to_lose > left or not clock.sleepers:
            await checkpoint()
        clock.advance(SECOND)
    while store.still_to_lose:
        await checkpoint()


async def leased_call(engine: Engine, *, valid_for: timedelta | None = None) -> Job:
    await engine.enqueue(valid_for=valid_for)
    (job,) = await engine.lease()
    return job


async def at_once(engine: Engine, job: Job, *, leased_at: float = 0.0) -> tuple[list[Flight], Sequence[Job]]:
    return await engine.submitter.begin_at_once([job], leased_at=leased_at)


async def test_a_call_whose_queue_was_held_since_its_lease_gets_no_entry(clock: ManualClock, engine: Engine) -> None:
    job = await leased_call(engine)
    leased_at = clock.monotonic()
    clock.advance(SECOND)
    engine.holds.close(Hold(reason="8x8 asks for a lower rate (429)"))
    assert await at_once(engine, job, leased_at=leased_at) == ([], [job])
    assert await engine.state(job) == JobState.LEASED


async def test_a_call_for_which_a_rate_is_set_before_its_entry_waits_for_a_departure_time(
    store: Restarted, clock: ManualClock
) -> None:
    departures = Departures(store.control, clock, queue="default", rate=None)

    class SetsARate:
        async def speech_profiles(self) -> Sequence[NamedVoice]:
            departures.follow(2)
            return []

    engine = Engine(store, ScriptedVoice(), departures=departures, voices=SetsARate())
    job = await leased_call(engine)
    assert await at_once(engine, job) == ([], [job])
    assert await engine.state(job) == JobState.LEASED


async def test_a_prepared_call_gets_no_entry_in_a_store_that_was_set_back_since(
    store: Restarted, clock: ManualClock, tmp_path: Path
) -> None:
    voice = ScriptedVoice()
    engine = Engine(store, voice, witness=JournalFiles(tmp_path / "journals"))
    await engine.enqueue(number(0))
    async with engine.at_work():
        (sent,) = await engine.send()
        await engine.enqueue(number(1))
        (prepared,) = await engine.prepare()
        assert await store.jobs.delete([sent], keep_keys_until=clock.now()) == [True]
        await engine.submitter.fly(prepared)
        assert len(voice.placed) == 1
        assert await engine.state(prepared.job) == JobState.QUEUED
        locks = await store.records.get(LOCKS, [number(1)], now=clock.now())
        assert locks == {number(1): f"{prepared.job.id}.1"}


async def test_a_prepared_call_gets_no_entry_after_a_restart_that_is_noticed_before_its_entry(
    store: Restarted, tmp_path: Path
) -> None:
    engine = Engine(store, ScriptedVoice(), witness=JournalFiles(tmp_path / "journals"))
    assert engine.guard is not None
    guard, stored = engine.guard, anyio.Event()

    async def first_entry(call: StoreCall) -> None:
        if call.name == "jobs.commit_locking":
            await stored.wait()

    await engine.enqueue(number(0))
    await engine.enqueue(number(1))
    async with engine.at_work():
        first, second = await engine.prepare()
        store.before = first_entry
        async with anyio.create_task_group() as group:
            for flight in (first, second):
                group.start_soon(engine.submitter.begin, [flight])
                await anyio.wait_all_tasks_blocked()
            guard.restarts += 1
            stored.set()
        assert await engine.state(first.job) == JobState.SENDING
        assert await engine.state(second.job) == JobState.QUEUED
