"""Failovers of real servers: each queue is held after each one, or goes on where it is trusted, and nobody rings twice.

Before each, people are called, and one opts out, by machines of which nobody is there any more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.support.cutting_proxy import CuttingProxy
from tests.support.flows import number
from tests.support.postgres import PostgresServer
from tests.support.redis_server import DURABLE, RedisServer, as_file
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available, until
from tests.support.workers import enqueued, in_state, worker_with_files
from voiceflow_worker import JobState, open_store
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.rollback import HELD_AS_TAKEN_OVER
from voiceflow_worker.core.settling.suppressing import SuppressionList

pytestmark = pytest.mark.anyio


async def sends(store: Store, voice: ScriptedVoice, folder: Path, placed: int) -> None:
    """A worker of another machine begins, sends all that waits, and ends; its files are gone."""
    async with anyio.create_task_group() as group:
        worker = worker_with_files(store, voice, folder)
        group.start_soon(worker.run)
        await in_state(store, JobState.ACCEPTED, placed)
        worker.stop()


async def goes_on(store: Store, voice: ScriptedVoice, folder: Path, *, held: bool) -> None:
    """A worker begins on the server that took over: it holds the queue, or sends what is new."""
    placed = len(voice.placed)

    async def is_held() -> bool:
        return any(gate.reason.startswith(HELD_AS_TAKEN_OVER) for gate in await gates_of(store, "default"))

    await once_available(lambda: enqueued(store, 2, first=40))
    async with anyio.create_task_group() as group:
        worker = worker_with_files(store, voice, folder)
        group.start_soon(worker.run)
        if held:
            await until(lambda: once_available(is_held))
            assert len(voice.placed) == placed
        else:
            await until(lambda: len(voice.placed) == placed + 2)
            assert not await is_held()
        worker.stop()
    assert len(voice.rang) == len(set(voice.rang)), "somebody rang twice"


def each_once_and_often(*kinds: str, everyday: bool) -> pytest.MarkDecorator:
    """Each kind of failover: once, and twelve times. Only where nothing is lost may somebody trust it."""
    cases = [(kind, trusted) for kind in kinds for trusted in (False, *[True] * (kind in {"confirmed", "synchronous"}))]
    marks = () if everyday else (pytest.mark.slow,)
    return pytest.mark.parametrize(
        ("kind", "trusted", "times"),
        [
            *(pytest.param(*case, 1, marks=marks) for case in cases),
            *(pytest.param(*case, 12, marks=(pytest.mark.slow, pytest.mark.timeout(600))) for case in cases),
        ],
    )


# -- Redis -------------------------------------------------------------------------------------------------------------


def redis_in(folder: Path) -> RedisServer:
    return RedisServer(folder, *as_file(folder), *DURABLE)


async def follows(replica: RedisServer, primary: RedisServer) -> None:
    """Make it a replica, and wait until the two are in step, and its file has all of it."""
    replica.ask("REPLICAOF", "127.0.0.1", primary.port)
    await until(replica.follows)
    await until(lambda: "aof_rewrite_in_progress:0" in str(replica.ask("INFO", "persistence")))


@each_once_and_often("asynchronous", "confirmed", "added later", "taken away later", everyday=True)
async def test_failovers_of_redis(tmp_path: Path, kind: str, times: int, *, trusted: bool) -> None:
    for each in range(times):
        servers = [redis_in(tmp_path / f"{each}{name}") for name in "abc"]
        try:
            await redis_fails_over(servers, tmp_path / f"{each}", kind=kind, trusted=trusted)
        finally:
            for server in servers:
                server.kill()


async def redis_fails_over(servers: Sequence[RedisServer], folder: Path, *, kind: str, trusted: bool) -> None:
    """Six people are called; then the second server, which may lack that, takes over the address."""
    voice, is_whole = ScriptedVoice(), kind == "confirmed"
    first, second, third = (server.start() for server in servers)
    options = f"?replicas={int(kind != 'asynchronous')}{'&failover=trusted' * trusted}"
    async with (
        CuttingProxy(first.port).listening() as address,
        open_store(f"redis://127.0.0.1:{address.port}{options}", advises=False) as store,
    ):
        if kind != "asynchronous":
            await follows(second if is_whole else third, first)
        await enqueued(store, 3)
        await sends(store, voice, folder / "early", 3)
        await follows(second, first)
        await enqueued(store, 6, first=3)
        await until(lambda: second.ask("DBSIZE") == first.ask("DBSIZE"))
        if not is_whole:
            second.lag()
        await sends(store, voice, folder / "other", 9)
        await SuppressionList(store).add(number(20), reason="asked for it")
        if kind == "taken away later":
            third.ask("REPLICAOF", "NO", "ONE")
        await to_thread.run_sync(first.kill)
        second.ask("REPLICAOF", "NO", "ONE")
        await follows(third, second)
        address.lead_to(second.port)
        await goes_on(store, voice, folder / "one", held=not trusted)


@pytest.mark.parametrize("promoted", [False, True], ids=["a plain one", "one that had taken over"])
async def test_a_restart_of_redis_holds_nothing_and_hides_no_failover_that_anybody_saw(
    tmp_path: Path, *, promoted: bool
) -> None:
    """Only a receiver saw that the server had taken over; a restart makes a Redis forget it."""
    voice, first, second = ScriptedVoice(), redis_in(tmp_path / "a"), redis_in(tmp_path / "b")
    try:
        async with open_store(first.start().url, advises=False) as store:
            await enqueued(store, 2)
            await sends(store, voice, tmp_path / "other", 2)
        if promoted:
            await follows(second.start(), first)
            second.ask("REPLICAOF", "NO", "ONE")
        server = second if promoted else first
        async with open_store(server.url, advises=False):
            pass
        await to_thread.run_sync(server.kill)
        await to_thread.run_sync(server.start)
        async with open_store(server.url, advises=False) as store:
            await goes_on(store, voice, tmp_path / "one", held=promoted)
    finally:
        first.kill()
        second.kill()


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@each_once_and_often("asynchronous", "synchronous", "mixed", "turned off", everyday=False)
async def test_failovers_of_postgresql(tmp_path: Path, kind: str, times: int, *, trusted: bool) -> None:
    for each in range(times):
        async with ended_servers() as begin:
            await postgres_fails_over(begin, tmp_path / f"{each}", kind=kind, trusted=trusted)


Begin = Callable[[Callable[[], PostgresServer]], Awaitable[PostgresServer]]


@asynccontextmanager
async def ended_servers() -> AsyncGenerator[Begin]:
    """Starts servers, which end with this block."""
    with ExitStack() as ends:

        async def begin(start: Callable[[], PostgresServer]) -> PostgresServer:
            server = await to_thread.run_sync(start)
            ends.callback(server.close)
            return server

        yield begin


def waits_for(server: PostgresServer, names: str) -> None:
    server.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    server.ask("SELECT pg_reload_conf()")


async def postgres_fails_over(begin: Begin, folder: Path, *, kind: str, trusted: bool) -> None:
    """Six people are called; then a standby, which may lack that, takes over."""
    voice, is_whole = ScriptedVoice(), kind == "synchronous"
    primary = await begin(PostgresServer().start)
    if kind == "mixed":
        await begin(partial(primary.standby, "cluster_name=near"))
    standby = await begin(partial(primary.standby, "cluster_name=far"))
    if kind != "asynchronous":
        waits_for(primary, "near" if kind == "mixed" else "far")
    options = {"failover": "trusted"} if trusted else {}
    async with open_store(primary.url(standby.port, **options), advises=False) as store:
        await enqueued(store, 3)
        await sends(store, voice, folder / "early", 3)
        await enqueued(store, 6, first=3)
        if kind == "turned off":
            waits_for(primary, "")
        if not is_whole:
            ((now,),) = primary.ask("SELECT pg_current_wal_lsn()::text")
            await until(lambda: standby.ask("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", now) == [(True,)])
            await to_thread.run_sync(standby.lag)
        await sends(store, voice, folder / "other", 9)
        await SuppressionList(store).add(number(20), reason="asked for it")
        waits_for(standby, "")  # it has the setting of the primary
        await to_thread.run_sync(primary.kill)
        await to_thread.run_sync(standby.promote)
        await goes_on(store, voice, folder / "one", held=not trusted)
