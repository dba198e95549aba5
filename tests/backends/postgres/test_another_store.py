"""A pooler that leads to another store for some seconds: nothing is stored there, and nobody of it rings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.support.flows import number
from tests.support.postgres import DATABASE, Pooler, PostgresServer
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available, until
from tests.support.workers import enqueued, worker_for, worker_with_files
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import StoreUnavailableError

pytestmark = [pytest.mark.anyio, pytest.mark.alone]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start().ask("CREATE DATABASE staging")
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("keeps_journal", [True, False])
async def test_while_a_pooler_leads_elsewhere_orders_are_refused_and_nobody_of_the_other_store_rings(
    server: PostgresServer, tmp_path: Path, *, keeps_journal: bool
) -> None:
    voice = ScriptedVoice()
    pooler = Pooler(server).start()
    staging = server.url().replace(f"/{DATABASE}", "/staging")
    try:
        async with open_store(staging, advises=False) as other:
            await enqueued(other, 3)
        async with open_store(pooler.url(), advises=False) as store, anyio.create_task_group() as group:
            queue = CallQueue(store)
            worker = worker_with_files(store, voice, tmp_path) if keeps_journal else worker_for(store, voice)
            group.start_soon(worker.run)
            await enqueued(store, 1, first=10)
            await until(lambda: len(voice.placed) == 1)
            await to_thread.run_sync(pooler.lead_to, "staging")
            with pytest.raises(StoreUnavailableError, match="leads to another store now"):
                await SuppressionList(store).add(number(0), reason="asked for it")
            with pytest.raises(StoreUnavailableError, match="leads to another store now"):
                await queue.hold()
            await until(lambda: worker.counts.task_failures.total() >= 2)  # it has tried to lease
            assert len(voice.placed) == 1
            await to_thread.run_sync(pooler.lead_to, DATABASE)
            await once_available(lambda: SuppressionList(store).add(number(0), reason="asked for it"))
            await once_available(lambda: enqueued(store, 1, first=11))
            await until(lambda: len(voice.placed) == 2)
            worker.stop()
            assert await gates_of(store, "default") == []
    finally:
        pooler.close()
    async with open_store(staging, advises=False) as other:
        assert not await SuppressionList(other).scan()
        assert await gates_of(other, "default") == []
