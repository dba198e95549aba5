"""Lanes in a file: what waits or is closed costs a lease nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE, sample_job
from voiceflow_worker.backends.contract.samples import add_jobs
from voiceflow_worker.backends.sqlite.file.connection import Connection
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.gates import order_gate
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncGenerator[Store]:
    async with open_store(f"sqlite:///{tmp_path}/calls.db") as store:
        yield store


async def lease(store: Store, limit: int = 100) -> list[str]:
    found = await store.jobs.lease(QUEUE, worker_id="w", limit=limit, lease_for=HOUR, now=NOW)
    return [job.id for job in found]


@pytest.mark.parametrize("kind", ["later", "held", "cancelled"])
async def test_batches_that_give_nothing_cost_a_lease_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    asked = 0
    for name in ("rows", "run"):
        real = getattr(Connection, name)

        def counted(self: Connection, *args: object, real: object = real) -> object:
            nonlocal asked
            asked += 1
            return real(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(Connection, name, counted)

    async with opened(tmp_path) as store:

        async def cost(number: int) -> int:
            nonlocal asked
            await add_jobs(store, [sample_job(number)])
            asked = 0
            assert await lease(store) == [sample_job(number).id]
            return asked

        alone = await cost(5000)
        due = NOW + HOUR if kind == "later" else NOW
        await add_jobs(store, [sample_job(n, batch_id=f"b{n}", due_at=due) for n in range(600)])
        if kind != "later":
            for number in range(600):
                gate = Gate(queue=QUEUE, scope=GateScope.BATCH, name=f"b{number}", state=GateState(kind), since=NOW)
                await order_gate(store, gate)
        await cost(5001)
        assert await cost(5002) == alone


async def test_what_has_expired_is_read_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        late = [sample_job(number, valid_until=NOW) for number in range(500)]
        await add_jobs(store, [*late, *(sample_job(n) for n in range(900, 903))], now=NOW - HOUR)
        assert await lease(store, 1) == [sample_job(900).id]
        db = apsw.Connection(f"{tmp_path}/calls.db")
        assert list(db.execute("SELECT id FROM lanes")) == [(sample_job(900).id,)]
        db.close()
        assert await lease(store) == [sample_job(901).id, sample_job(902).id]


async def test_no_lane_is_left_without_jobs(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        jobs = [sample_job(n, batch_id=f"b{n % 6}" if n % 5 else None, priority=n % 3) for n in range(90)]
        await add_jobs(store, jobs)
        await lease(store)
        db = apsw.Connection(f"{tmp_path}/calls.db")
        assert list(db.execute("SELECT * FROM lanes")) == []
        db.close()
