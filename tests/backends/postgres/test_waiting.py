"""Waiting for changes: with LISTEN, behind a transaction pooler, and after the listening connection was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import sample_job
from tests.support.postgres import Pooler, PostgresServer
from tests.support.waiting import until
from voiceflow_worker.backends.postgres import PostgresStore, waiting
from voiceflow_worker.backends.postgres.opening import open_postgres

pytestmark = pytest.mark.anyio

QUEUE = sample_job().queue
LISTENERS = "FROM pg_stat_activity WHERE starts_with(query, 'LISTEN') AND application_name = %s"


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[Pooler]:
    pooler = Pooler(postgres_server)
    try:
        yield pooler.start()
    finally:
        pooler.close()


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only looks now and then finds nothing within the time of a test."""
    monkeypatch.setattr(waiting, "POLL_EVERY", 60)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres(url) as store:
        yield store


async def wakes(reader: PostgresStore, writer: PostgresStore, number: int) -> None:
    """What one handle stores wakes a task that waits on another one."""
    with anyio.fail_after(20):
        seen = await reader.wait(QUEUE, seen=0, until=reader.clock.now())
        async with anyio.create_task_group() as group:
            later = reader.clock.now() + timedelta(hours=1)
            group.start_soon(lambda: reader.wait(QUEUE, seen=seen, until=later))
            await anyio.wait_all_tasks_blocked()
            await add_jobs(writer, [sample_job(number)])


async def listening(store: PostgresStore) -> None:
    await store.wait(QUEUE, seen=0, until=store.clock.now())
    await until(lambda: store.changes._hears)


@pytest.mark.usefixtures("seldom")
async def test_a_write_of_another_process_is_told_at_once(postgres_server: PostgresServer, schema: str) -> None:
    url = postgres_server.url(schema=schema)
    async with opened(url) as reader, opened(url) as writer:
        await listening(reader)
        for number in range(3):
            await wakes(reader, writer, number)


@pytest.mark.usefixtures("seldom")
async def test_a_lost_listening_connection_is_opened_again_and_what_came_meanwhile_is_found(
    postgres_server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.url(schema=schema, application_name="listener")
    async with opened(url) as reader, opened(postgres_server.url(schema=schema)) as writer:
        await listening(reader)
        seen = await reader.wait(QUEUE, seen=0, until=reader.clock.now())
        monkeypatch.setattr(waiting, "POLL_EVERY", 0.01)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                later = reader.clock.now() + timedelta(hours=1)
                group.start_soon(lambda: reader.wait(QUEUE, seen=seen, until=later))
                await anyio.wait_all_tasks_blocked()
                ended = postgres_server.ask(f"SELECT pg_terminate_backend(pid, 5000) {LISTENERS}", "listener")
                assert ended == [(True,)]
                await add_jobs(writer, [sample_job(1)])
        monkeypatch.setattr(waiting, "POLL_EVERY", 60)
        await until(lambda: reader.changes._hears)
        await wakes(reader, writer, 2)
    # The server ends what has left in its own time.
    await until(lambda: postgres_server.ask(f"SELECT count(*) {LISTENERS}", "listener") == [(0,)])


@pytest.mark.usefixtures("seldom")
async def test_who_waits_when_the_listening_connection_is_lost_looks_at_once(
    postgres_server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LISTEN_AGAIN_AFTER", 60)
    url = postgres_server.url(schema=schema, application_name="lost")
    async with opened(url) as reader, opened(postgres_server.url(schema=schema)) as writer:
        await listening(reader)
        with anyio.fail_after(20):
            seen = await reader.wait(QUEUE, seen=0, until=reader.clock.now())
            async with anyio.create_task_group() as group:
                later = reader.clock.now() + timedelta(hours=1)
                group.start_soon(lambda: reader.wait(QUEUE, seen=seen, until=later))
                await anyio.wait_all_tasks_blocked()
                monkeypatch.setattr(waiting, "POLL_EVERY", 0.01)
                postgres_server.ask(f"SELECT pg_terminate_backend(pid, 5000) {LISTENERS}", "lost")
                await add_jobs(writer, [sample_job(1)])


async def test_behind_a_pooler_in_transaction_mode_a_store_works_and_looks(
    postgres_server: PostgresServer, pooler: Pooler, schema: str
) -> None:
    url = pooler.url(schema=schema)
    async with opened(url) as reader, opened(url) as writer:
        await wakes(reader, writer, 1)
        await until(lambda: reader.changes._listening is not None and reader.changes._listening.done())
        await wakes(reader, writer, 2)
        leased = await reader.lease(
            QUEUE, worker_id="w", limit=9, until=reader.clock.now() + timedelta(minutes=1), now=reader.clock.now()
        )
        assert len(leased) == 2


@pytest.mark.usefixtures("seldom")
async def test_the_listening_connection_stays_though_its_role_ends_idle_sessions(
    postgres_server: PostgresServer, schema: str
) -> None:
    of_role = postgres_server.url(schema=schema, application_name="stays", options="-c%20idle_session_timeout%3D300ms")
    async with opened(of_role) as reader, opened(postgres_server.url(schema=schema)) as writer:
        await listening(reader)
        pids = await writer.database.rows(f"SELECT pid {LISTENERS}", "stays")
        idle = await reader.database.connected()  # another connection of the role, which waits for as long

        async def has_ended() -> bool:
            return not await writer.database.rows(
                "SELECT FROM pg_stat_activity WHERE pid = %s", idle.pgconn.backend_pid
            )

        await until(has_ended)
        await idle.close()
        assert await writer.database.rows(f"SELECT pid {LISTENERS}", "stays") == pids != []
        await wakes(reader, writer, 1)
