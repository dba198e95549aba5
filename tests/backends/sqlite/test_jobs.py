"""Work that the SQLite backend does quicker than the contract asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import NOW, QUEUE, sample_job
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.backends.sqlite import store as sqlite_store

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)


async def test_a_change_in_this_process_wakes_at_once(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "POLL_EVERY", 10**6)  # no look for other processes' changes comes to its help
    until = store.clock.now() + HOUR
    seen = await store.wait(QUEUE, seen=0, until=until)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(lambda: store.wait(QUEUE, seen=seen, until=until))
            await anyio.wait_all_tasks_blocked()
            await add_jobs(store, [sample_job()])


@pytest.mark.parametrize("wait", [{"due_at": NOW + HOUR}, {"due_at": NOW + HOUR, "batch_id": "later"}], ids=str)
async def test_jobs_that_are_not_due_cost_a_lease_nothing(store: SqliteStore, wait: dict[str, Any]) -> None:
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    store.writer._db._db.set_progress_handler(count, 1)

    async def cost(number: int) -> int:
        nonlocal steps
        await add_jobs(store, [sample_job(number)])
        steps = 0
        leased = await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + HOUR, now=NOW)
        assert [job.id for job in leased] == [sample_job(number).id]
        return steps

    alone = await cost(1000)
    await add_jobs(store, [sample_job(number, **wait) for number in range(500)])
    assert await cost(1001) < alone + 50
