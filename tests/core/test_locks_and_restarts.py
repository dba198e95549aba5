"""Locks that were taken while a restart of the server was noticed: they may be lost, so they are taken again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.backends.witness import JournalFiles
from voiceflow_worker.core.numbers.locks import NAMESPACE

pytestmark = pytest.mark.anyio


class Restarted(MemoryStore):
    """A store behind a server that may be restarted."""

    run_id = "first"

    async def incarnation(self, queue: str) -> str:  # noqa: ARG002 - the port's
        return self.run_id


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
