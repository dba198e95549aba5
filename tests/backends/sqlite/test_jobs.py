"""Work that the SQLite backend does quicker than the contract asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from voiceflow_worker.backends.contract import NOW, QUEUE, sample_job
from voiceflow_worker.backends.sqlite import SqliteStore, jobs, open_sqlite
from voiceflow_worker.backends.sqlite.file.connection import Connection, Row
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState

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
            await store.jobs.enqueue([sample_job()], now=NOW)


async def test_a_large_closed_batch_is_not_read_at_each_lease(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = [sample_job(number, batch_id="closed", priority=9) for number in range(1, 4001)]
    await store.jobs.enqueue([*closed, sample_job(4001, batch_id="open"), sample_job(4002)], now=NOW)
    await store.control.gate(Gate(queue=QUEUE, scope=GateScope.BATCH, name="closed", state=GateState.HELD, since=NOW))
    read = 0
    each = Connection.each

    def counting(self: Connection, statement: str, bindings: Sequence[Any] = ()) -> Iterator[Row]:
        nonlocal read
        for row in each(self, statement, bindings):
            read += 1
            yield row

    monkeypatch.setattr(Connection, "each", counting)
    leased = await store.jobs.lease(QUEUE, worker_id="w", limit=5, lease_for=HOUR, now=NOW)
    assert [job.id for job in leased] == [sample_job(4001).id, sample_job(4002).id]
    assert read < 1100
