"""A worker that cannot write its journal file: it says so, takes nothing from the queue, and goes on by itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.manual_time import time_passing
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import enqueued, in_state, states, worker_with_files
from voiceflow_worker import JobState
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.model.jobs.job import Job

pytestmark = pytest.mark.anyio

CALLS = 6
TASK = "the journal file was not written"
HEADER = 200
"""Bytes; the first line of a file is shorter, and with an entry it is longer."""


class Counting(MemoryStore):
    """A store that counts how often it was asked for calls."""

    leases = 0

    async def lease(self, *given: Any, **more: Any) -> Sequence[Job]:
        self.leases += 1
        return await super().lease(*given, **more)


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_room_for_entries(fd: int) -> None:
    if Path(f"/proc/self/fd/{fd}").is_file() and os.fstat(fd).st_size > HEADER:
        full()


async def test_a_worker_that_cannot_write_its_journal_file_takes_no_calls(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, voice = Counting(clock=clock), ScriptedVoice()
    queue, worker = await enqueued(store, CALLS), worker_with_files(store, voice, tmp_path)
    async with time_passing(clock, step=timedelta(seconds=1)), anyio.create_task_group() as group:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", no_room_for_entries)
            group.start_soon(worker.run)
            await until(lambda: TASK in worker.failing)
            leases = store.leases
            await clock.sleep(timedelta(minutes=10).total_seconds())
            assert store.leases == leases <= CALLS
            failing = await Heartbeats(store).failing("default")
            assert "free space on the disk of its VOICEFLOW_STATE_DIR" in failing[TASK]
            assert (await states(queue), voice.placed) == ({"queued": CALLS}, [])
        await in_state(store, JobState.ACCEPTED, CALLS)
        assert TASK not in worker.failing
        worker.stop()
    assert len(voice.placed) == CALLS
