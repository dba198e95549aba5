"""A process that waits is woken by the write of another one, and costs next to nothing until then."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.contract.samples import QUEUE, add_jobs, sample_job
from tests.support.loops import either_loop
from tests.support.postgres import Pooler, PostgresServer
from tests.support.redis_server import RedisServer
from tests.support.stores import DURABLE, bare
from tests.support.waiting import until
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.postgres import PostgresStore, waiting
from voiceflow_worker.backends.sqlite import store as sqlite
from voiceflow_worker.core.ports import Store

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
LISTENERS = "FROM pg_stat_activity WHERE starts_with(query, 'LISTEN') AND application_name = %s"


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only looks now and then finds nothing within the time of a test."""
    for module, name in ((waiting, "POLL_EVERY"), (sqlite, "LOOK_EVERY")):
        monkeypatch.setattr(module, name, 10.0**6)


async def wakes(reader: Store, act: Callable[[], Any], *, waits: int = 1) -> None:
    """What is done wakes the tasks that wait on a store."""
    with anyio.fail_after(60):
        seen = await reader.wait(QUEUE, seen=0, until=reader.clock.now())
        async with anyio.create_task_group() as group:
            for _ in range(waits):
                group.start_soon(lambda: reader.wait(QUEUE, seen=seen, until=reader.clock.now() + HOUR))
            await anyio.wait_all_tasks_blocked()
            await act()


async def woken_by(reader: Store, writer: Store, number: int = 1, *, waits: int = 1) -> None:
    await wakes(reader, lambda: add_jobs(writer, [sample_job(number)]), waits=waits)


async def listening(store: Store) -> PostgresStore:
    found = bare(store, PostgresStore)
    await found.wait(QUEUE, seen=0, until=found.clock.now())
    await until(lambda: found.changes._hears)
    return found


@pytest.mark.usefixtures("seldom")
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("kind", DURABLE)
async def test_a_write_wakes_whoever_waits_for_it_here_and_elsewhere(
    kind: str, fresh_url: Callable[[str], str], own: bool
) -> None:
    url = fresh_url(kind)
    async with open_store(url) as store, open_store(url) as other:
        if kind == "postgres":
            await listening(store)
        for number in (1, 2, 3):
            await woken_by(store, store if own else other, number, waits=3)


class TestAFile:
    @either_loop
    @pytest.mark.usefixtures("seldom")
    async def test_leaves_nothing_beside_it_and_what_a_killed_process_left_hinders_nobody(self, tmp_path: Path) -> None:
        url, folder = f"sqlite:///{tmp_path}/calls.db", tmp_path / "calls.db-wake"
        async with open_store(url) as store, open_store(url) as other:
            await woken_by(store, other)
        assert not folder.exists()
        folder.mkdir()
        os.mkfifo(folder / "1-dead")
        (folder / "a-file").write_text("kept, and written by nobody")
        async with open_store(url) as store, open_store(url) as other:
            await woken_by(store, other, 2)
            assert not (folder / "1-dead").exists()
        assert (folder / "a-file").read_text() == "kept, and written by nobody"

    async def test_is_looked_at_where_no_fifo_can_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "calls.db-wake").write_text("no folder")
        url = f"sqlite:///{tmp_path}/calls.db"
        async with open_store(url) as store, open_store(url) as other:
            await woken_by(store, other)


class TestRedis:
    async def test_is_asked_for_next_to_nothing(self, shared_redis: RedisServer) -> None:
        async with open_store(f"{shared_redis.url}?prefix=waking") as store:
            seen = await store.wait(QUEUE, seen=0, until=store.clock.now() + HOUR)
            await store.wait(QUEUE, seen=seen, until=store.clock.now() + timedelta(seconds=0.05))
            shared_redis.ask("CONFIG", "RESETSTAT")
            until = store.clock.now() + timedelta(seconds=1)
            while await store.wait(QUEUE, seen=seen, until=until) == seen and store.clock.now() < until:
                pass
            stats = str(shared_redis.ask("INFO", "stats"))
            assert int(stats.partition("total_commands_processed:")[2].split()[0]) < 24

    async def test_wakes_who_waits_when_it_was_rolled_back(self, shared_redis: RedisServer) -> None:
        """The count it had is gone; whoever waits for a larger one must not sleep until it is reached again."""
        async with open_store(f"{shared_redis.url}?prefix=rolled") as store:
            for number in range(5):
                await add_jobs(store, [sample_job(number)])

            async def rolled_back() -> None:
                await anyio.sleep(0.1)  # the server has the question; no event says so
                shared_redis.ask("DEL", *(f"{{rolled}}:queue:{QUEUE}:{name}" for name in ("changes", "wake")))
                shared_redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

            await wakes(store, rolled_back)


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[Pooler]:
    pooler = Pooler(postgres_server)
    try:
        yield pooler.start()
    finally:
        pooler.close()


@pytest.fixture
def schema(fresh_url: Callable[[str], str]) -> str:
    return fresh_url("postgres").partition("schema=")[2].partition("&")[0]


class TestPostgres:
    @pytest.mark.usefixtures("seldom")
    @pytest.mark.parametrize("listens_again", [True, False])
    async def test_that_lost_the_listening_connection_is_looked_at_and_listened_to_again(
        self, postgres_server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch, listens_again: bool
    ) -> None:
        if not listens_again:
            monkeypatch.setattr(waiting, "LISTEN_AGAIN_AFTER", 60)
        name = f"listener-{listens_again}"
        url = postgres_server.url(schema=schema, application_name=name)
        async with open_store(url) as opened, open_store(postgres_server.url(schema=schema)) as writer:
            reader = await listening(opened)

            async def lost() -> None:
                monkeypatch.setattr(waiting, "POLL_EVERY", 0.01)
                ended = postgres_server.ask(f"SELECT pg_terminate_backend(pid, 5000) {LISTENERS}", name)
                assert ended == [(True,)]
                await add_jobs(writer, [sample_job(1)])

            await wakes(reader, lost)
            if listens_again:
                monkeypatch.setattr(waiting, "POLL_EVERY", 60)
                await until(lambda: reader.changes._hears)
                await woken_by(reader, writer, 2)
        # The server ends what has left in its own time.
        await until(lambda: postgres_server.ask(f"SELECT count(*) {LISTENERS}", name) == [(0,)])

    async def test_behind_a_pooler_in_transaction_mode_works_and_is_looked_at(
        self, pooler: Pooler, schema: str
    ) -> None:
        url = pooler.url(schema=schema)
        async with open_store(url) as opened, open_store(url) as writer:
            reader = bare(opened, PostgresStore)
            await woken_by(reader, writer, 1)
            await until(lambda: reader.changes._listening is not None and reader.changes._listening.done())
            await woken_by(reader, writer, 2)
            now = reader.clock.now()
            leased = await reader.lease(QUEUE, worker_id="w", limit=9, until=now + timedelta(minutes=1), now=now)
            assert len(leased) == 2
