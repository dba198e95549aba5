"""Work that the SQLite backend does quicker than the contract asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from voiceflow_worker.backends.contract import QUEUE, sample_job
from voiceflow_worker.backends.contract.samples import add_jobs
from voiceflow_worker.backends.sqlite import SqliteStore, jobs, open_sqlite

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[SqliteStore]:
    async with open_sqlite(f"sqlite:///{tmp_path}/calls.db") as store:
        yield store


async def test_a_change_in_this_process_wakes_at_once(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_LOOK_EVERY", 10**6)  # no look for other processes' changes comes to its help
    until = store.clock.now() + HOUR
    seen = await store.jobs.wait(QUEUE, seen=0, until=until)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(lambda: store.jobs.wait(QUEUE, seen=seen, until=until))
            await anyio.wait_all_tasks_blocked()
            await add_jobs(store, [sample_job()])
