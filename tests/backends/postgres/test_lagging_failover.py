"""Failovers to a standby that lags, and plain restarts: nothing rings twice; a person learns what may be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.contract.suite import sample_job
from tests.contract.writing import new
from tests.support.flows import number
from tests.support.postgres import Pooler, PostgresServer
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available, until, wait_until
from tests.support.workers import enqueued, in_state, worker_with_files
from voiceflow_worker import JobState, open_store
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Guard, Result, Same
from voiceflow_worker.core.rollback import HELD, HELD_AS_TAKEN_OVER
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import SuppressedNumberError
from voiceflow_worker.model.copying import replace

pytestmark = [pytest.mark.anyio, pytest.mark.alone]


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def standby(primary: PostgresServer) -> Iterator[PostgresServer]:
    server = primary.standby()
    try:
        yield server
    finally:
        server.close()


def lags(primary: PostgresServer, standby: PostgresServer) -> None:
    """The standby has all that the primary has now, and takes no more."""
    ((now,),) = primary.ask("SELECT pg_current_wal_lsn()::text")
    has = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    wait_until(lambda: standby.ask(has, now) == [(True,)], "standby that has everything")
    standby.lag()


async def reasons(store: Store) -> list[str]:
    return [gate.reason for gate in await gates_of(store, "default")]


async def test_a_running_worker_holds_the_queue_after_a_failover_to_a_standby_that_lagged(
    primary: PostgresServer, standby: PostgresServer, tmp_path: Path
) -> None:
    """Twenty calls left, and somebody opted out, while the standby took nothing."""
    voice = ScriptedVoice()
    async with open_store(primary.url(standby.port), advises=False) as store, anyio.create_task_group() as group:
        queue = await enqueued(store, 20)
        await to_thread.run_sync(lags, primary, standby)
        worker = worker_with_files(store, voice, tmp_path)
        group.start_soon(worker.run)
        await in_state(store, JobState.ACCEPTED, 20)
        await SuppressionList(store).add(number(20), reason="asked for it")
        await to_thread.run_sync(primary.kill)
        await to_thread.run_sync(standby.promote)
        await in_state(store, JobState.IN_DOUBT, 20)
        (reason,) = await reasons(store)
        assert HELD_AS_TAKEN_OVER in reason or HELD in reason
        for job in await queue.find(states=[JobState.IN_DOUBT], limit=None):
            await queue.resolve(job.id, placed=True, note="seen in the log")
        await enqueued(store, 4, first=21)
        with pytest.raises(SuppressedNumberError):
            await enqueued(store, 1, first=20)
        await queue.resume()
        await until(lambda: len(voice.placed) >= 24)
        worker.stop()
    assert Counter(voice.client_request_ids).most_common(1) == [(voice.client_request_ids[0], 1)]
    assert len(voice.placed) == 24


async def test_a_server_that_restarts_holds_nothing(primary: PostgresServer, tmp_path: Path) -> None:
    voice = ScriptedVoice()
    async with open_store(primary.url(), advises=False) as store, anyio.create_task_group() as group:
        await enqueued(store, 5)
        worker = worker_with_files(store, voice, tmp_path)
        group.start_soon(worker.run)
        await in_state(store, JobState.ACCEPTED, 5)
        await to_thread.run_sync(primary.kill)
        await to_thread.run_sync(primary.start)
        await once_available(lambda: enqueued(store, 5, first=5))
        await until(lambda: len(voice.placed) >= 10)
        assert await once_available(lambda: reasons(store)) == []
        worker.stop()
    assert len(voice.placed) == 10


async def test_a_restart_behind_a_pooler_that_keeps_the_connections_is_noticed(primary: PostgresServer) -> None:
    """A worker whose guard names the server as it was must learn of the new one, or nothing leaves any more."""
    pooler = Pooler(primary).start()
    try:
        async with open_store(pooler.url(), advises=False) as store:
            now, known = store.clock.now(), Same("posted", "w", None)
            bulk = BulkWrite(writes=(new(sample_job(1)),), guard=Guard(store.server, known))
            await to_thread.run_sync(primary.stop)
            await to_thread.run_sync(primary.start)
            assert [answer.result for answer in await store.write(bulk, now=now)] == [Result.NOT_VERIFIED]
            bulk = replace(bulk, guard=Guard(store.server, known))
            assert [answer.result for answer in await store.write(bulk, now=now)] == [Result.DONE]
    finally:
        pooler.close()
