"""Files made before events told their POST go on being used, by newer and older processes at the same time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import apsw
import pytest

from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE, moved, sample_jobs
from voiceflow_worker.core.ports import Event, EventKind
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio


async def test_a_file_of_an_older_version_gets_them_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    first, second, third = sample_jobs(3)
    event = Event(job_id=first.id, kind=EventKind.ENDED, at=NOW, state=JobState.FAILED, revision="r", post=2)
    async with open_store(f"sqlite:///{path}") as store:
        await store.jobs.enqueue([first, second, third], now=NOW)
        await store.jobs.commit([moved(first, event, state=JobState.FAILED)])
    db = apsw.Connection(str(path))  # not Python's sqlite3: two libraries in a process break locks
    db.execute("ALTER TABLE events DROP COLUMN post")
    db.close()
    async with open_store(f"sqlite:///{path}") as store, anyio.create_task_group() as group:
        again = moved(second, replace(event, job_id=second.id), state=JobState.FAILED)
        group.start_soon(store.jobs.commit, [again])
    older = apsw.Connection(str(path))
    older.execute(
        "INSERT INTO events (queue, job_id, kind, at, state, revision) VALUES (?, ?, 'ended', 0, 'failed', 'r')",
        (QUEUE, third.id),
    )
    older.close()
    async with open_store(f"sqlite:///{path}") as store:
        assert [(each.job_id, each.post) for each in await store.jobs.events(QUEUE)] == [
            (first.id, 0),
            (second.id, 2),
            (third.id, 0),
        ]
