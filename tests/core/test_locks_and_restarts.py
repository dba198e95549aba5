"""Locks that were taken while the guard checked the store: it may notice a restart of the server, or refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest

from tests.support.engine import Engine
from tests.support.flows import SOURCE, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallFlow, Job
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.backends.witness import JournalFiles
from voiceflow_worker.core.guard.rollback import RollbackGuard
from voiceflow_worker.core.numbers.locks import NAMESPACE

pytestmark = pytest.mark.anyio


class Restarted(MemoryStore):
    """A store behind a server that may be restarted."""

    run_id = "first"

    async def look(self, queue: str, job_ids: Sequence[str]) -> tuple[str, Mapping[str, Job]]:  # noqa: ARG002 - the port's
        return self.run_id, await self.jobs.get(job_ids)


async def test_a_call_leaves_with_its_lock_though_the_restarted_server_lost_the_first_one(
    tmp_path: Path, clock: ManualClock
) -> None:
    store = Restarted(clock=clock)
    engine = Engine(store, ScriptedVoice(), witness=JournalFiles(tmp_path))
    async with engine.at_work(), anyio.create_task_group() as group:
        job = await engine.enqueue()
        store.run_id = "second"
        group.start_soon(engine.send)
        await anyio.wait_all_tasks_blocked()
        lock = {job.destination: f"{job.id}.1"}
        assert await store.records.get(NAMESPACE, [job.destination], now=clock.now()) == lock
        await store.records.delete(NAMESPACE, lock)
        clock.advance(timedelta(seconds=2))
    assert await engine.state(job) == "submitted"
    assert await store.records.get(NAMESPACE, [job.destination], now=clock.now()) == lock


async def test_a_call_whose_window_closes_during_the_check_of_a_restart_keeps_no_lock(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Restarted(clock=clock)
    engine = Engine(store, ScriptedVoice(), witness=JournalFiles(tmp_path))
    closes = clock.now() + timedelta(seconds=1)

    def may_ring(_: Job, *, at: datetime) -> bool:
        return at < closes

    monkeypatch.setattr(Job, "may_ring", may_ring)
    async with engine.at_work(), anyio.create_task_group() as group:
        job = await engine.enqueue()
        store.run_id = "second"
        group.start_soon(engine.send)
        await anyio.wait_all_tasks_blocked()
        assert await store.records.get(NAMESPACE, [job.destination], now=clock.now()) == {
            job.destination: f"{job.id}.1"
        }
        clock.advance(timedelta(seconds=2))
    assert await engine.state(job) == "queued"
    assert await store.records.get(NAMESPACE, [job.destination], now=clock.now()) == {}


async def test_a_refused_call_with_a_busy_second_number_leaves_the_lock_of_a_call_that_the_store_may_have_lost(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, desk = (number(place) for place in range(3))
    engine = Engine(MemoryStore(clock=clock), ScriptedVoice(), witness=JournalFiles(tmp_path))
    records = engine.store.records

    async def refused(_: RollbackGuard) -> bool:
        return False

    async with engine.at_work():
        await engine.queue.enqueue(bridge(ben, desk))
        await engine.send()
        job = await engine.queue.enqueue(bridge(ana, desk))
        lost = {ana: f"{job.id}.1"}
        ends_at = clock.now() + engine.policy.submit_window + engine.policy.ringing
        await records.put_if_absent(NAMESPACE, lost, expires_at=ends_at, now=clock.now())
        monkeypatch.setattr(RollbackGuard, "vet", refused)
        assert await engine.prepare() == []
        assert await records.get(NAMESPACE, [ana], now=clock.now()) == lost


def bridge(first: str, second: str) -> CallFlow:
    words = CallFlow.call(first, source=SOURCE).say("You are connected.", voice_profile="en-IE-EmilyNeural")
    return words.then_call(second, source=SOURCE)
