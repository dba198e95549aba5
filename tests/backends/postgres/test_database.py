"""The connections to a database: whoever is cancelled takes nobody's answer, and each fault has its sentence."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

import anyio
import psycopg
import pytest
from psycopg import errors

from tests.support.postgres import ADMINISTRATOR, DATABASE, PostgresServer, connected
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until, wait_until
from tests.support.workers import enqueued, in_state, worker_for
from voiceflow_worker import JobState, open_store
from voiceflow_worker.backends.postgres import database as module
from voiceflow_worker.backends.postgres.database import MOST_CONNECTIONS, Database
from voiceflow_worker.backends.postgres.faults import translated
from voiceflow_worker.backends.postgres.survey import Connection, Survey
from voiceflow_worker.backends.postgres.url import parse_url
from voiceflow_worker.errors import (
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

pytestmark = pytest.mark.anyio


class NoSurvey(Survey):
    """A check that every server passes."""

    async def check(self, connection: Connection) -> None:
        pass


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(parse_url(url), NoSurvey(parse_url(url)))
    async with database.opened():
        yield database


def connections(server: PostgresServer, name: str) -> int:
    (row,) = server.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", name)
    return int(row[0])


async def cancelled_by_a_scope(work: Awaitable[object], turns: int) -> None:
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            await work


async def cancelled_as_a_task(work: Awaitable[object], turns: int) -> None:
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.done()


@pytest.mark.parametrize("cancelled", [cancelled_by_a_scope, cancelled_as_a_task])
@pytest.mark.parametrize("is_connected", [True, False])
async def test_who_is_cancelled_at_any_turn_leaves_no_answer_and_takes_no_place(
    postgres_server: PostgresServer,
    cancelled: Callable[[Awaitable[object], int], Awaitable[None]],
    is_connected: bool,
) -> None:
    url = postgres_server.url(application_name="cancelled")
    async with opened(url) as database:
        for turns in range(40 if is_connected else 80):
            if not is_connected:
                await database._pool.drain()
            with anyio.fail_after(5):
                await cancelled(database.rows("SELECT 'late', pg_sleep(0.001)"), turns)
            if turns % 5 == 0:
                asked = [database.rows("SELECT %s::integer", number) for number in range(2 * MOST_CONNECTIONS)]
                assert await asyncio.gather(*asked) == [[(number,)] for number in range(2 * MOST_CONNECTIONS)]
    wait_until(lambda: not connections(postgres_server, "cancelled"), "the end of all connections")


async def test_who_is_cancelled_does_not_wait_for_a_server_that_is_silent(postgres_server: PostgresServer) -> None:
    async with opened(postgres_server.url()) as database:
        ((backend,),) = await database.rows("SELECT pg_backend_pid()")
        try:
            with anyio.fail_after(2), anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(database.rows, "SELECT 1, pg_sleep(30)")
                    await anyio.sleep(0.05)
                    os.kill(backend, signal.SIGSTOP)
                    scope.cancel()
            assert await database.rows("SELECT 2") == [(2,)]
        finally:
            os.kill(backend, signal.SIGCONT)
            postgres_server.ask("SELECT pg_terminate_backend(%s)", backend)


async def test_a_statement_that_takes_too_long_is_ended_on_the_server(postgres_server: PostgresServer) -> None:
    async with opened(postgres_server.url(application_name="too-long")) as database:
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            await database.rows("SELECT pg_sleep(60)", within=0.05)
        busy = "SELECT FROM pg_stat_activity WHERE application_name = 'too-long' AND state = 'active'"
        await until(lambda: not postgres_server.ask(busy))


async def test_a_pool_that_is_busy_and_a_server_that_is_silent_end_in_time(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(postgres_server.url()) as database:
        assert await database.rows("SELECT 1") == [(1,)]
        monkeypatch.setattr(module, "ANSWER_WITHIN", 0.1)
        async with anyio.create_task_group() as group:
            for _ in range(MOST_CONNECTIONS):
                group.start_soon(lambda: database.rows("SELECT pg_sleep(0.5)", within=5))
            await anyio.sleep(0.05)
            with pytest.raises(StoreUnavailableError, match="none of 3 connections"):
                await database.rows("SELECT 1")
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        async with opened(f"postgresql://me@127.0.0.1:{deaf.getsockname()[1]}/c?connect_timeout=2") as database:
            with pytest.raises(StoreUnavailableError, match="timeout"):
                await database.rows("SELECT 1")


async def test_a_connection_that_the_server_has_closed_while_nobody_used_it_is_replaced_unseen(
    postgres_server: PostgresServer,
) -> None:
    async with opened(postgres_server.url(application_name="closed")) as database:
        await asyncio.gather(*(database.rows("SELECT pg_sleep(0.05)") for _ in range(MOST_CONNECTIONS)))
        ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'closed'"
        assert postgres_server.ask(ended) == [(True,)] * MOST_CONNECTIONS
        for _ in range(2 * MOST_CONNECTIONS):
            assert await database.rows("SELECT 1") == [(1,)]


async def test_only_what_the_server_has_certainly_undone_is_made_again(postgres_server: PostgresServer) -> None:
    postgres_server.ask("CREATE SEQUENCE IF NOT EXISTS tries")
    async with opened(postgres_server.url()) as database:
        for state, tries, error in [
            ("40P01", module.TRIES, StoreUnavailableError),
            ("40001", module.TRIES, StoreUnavailableError),
            ("57P01", 1, StoreUnavailableError),
            ("23505", 1, StoreError),
            ("55P03", 1, StoreUnavailableError),
        ]:
            postgres_server.ask("ALTER SEQUENCE tries RESTART")
            with pytest.raises(error):
                await database.rows(
                    f"DO $$ BEGIN PERFORM nextval('tries'); RAISE 'not now' USING ERRCODE = '{state}'; END $$"
                )
            assert postgres_server.ask("SELECT last_value FROM tries") == [(tries,)], state


async def test_a_fault_of_a_real_server_is_told_with_its_cause_and_a_remedy(postgres_server: PostgresServer) -> None:
    ask = postgres_server.ask
    for role in ("limited", "hurried", "reader_of_nothing"):
        ask(f"DROP ROLE IF EXISTS {role}")
        ask(f"CREATE ROLE {role} LOGIN")
    ask("ALTER ROLE limited CONNECTION LIMIT 0")
    ask("ALTER ROLE hurried SET statement_timeout = '10ms'")
    ask("CREATE TABLE IF NOT EXISTS secrets (value text)")
    free = socket.create_server(("127.0.0.1", 0))
    nobody = free.getsockname()[1]
    free.close()
    here = f"127.0.0.1:{postgres_server.port}"
    for url, statement, kind, passes, said in [
        (f"postgresql://me@127.0.0.1:{nobody}/c", "SELECT 1", StoreUnavailableError, True, "check that it runs"),
        ("postgresql:///c?host=/nowhere", "SELECT 1", StoreUnavailableError, True, "check that it runs"),
        ("postgresql://me@nowhere.invalid/c", "SELECT 1", StoreUnavailableError, True, "check that it runs"),
        (f"postgresql://me@{here}/{DATABASE}", "SELECT 1", StoreUnavailableError, False, "the user and the"),
        (f"postgresql://{ADMINISTRATOR}@{here}/none", "SELECT 1", StoreUnavailableError, False, "does not exist"),
        (f"postgresql://limited@{here}/{DATABASE}", "SELECT 1", StoreUnavailableError, True, "too many connections"),
        (f"{postgres_server.url()}?sslmode=require", "SELECT 1", StoreUnavailableError, False, "SSL"),
        (postgres_server.url(user="hurried"), "SELECT pg_sleep(9)", StoreUnavailableError, True, "statement timeout"),
        (postgres_server.url(user="reader_of_nothing"), "SELECT * FROM secrets", StoreReadOnlyError, False, "GRANT"),
        (postgres_server.url(), "SELECT * FROM nowhere", StoreCorruptError, False, "doctor --make"),
        (postgres_server.url(), "SELECT nothing()", StoreCorruptError, False, "doctor --make"),
        (postgres_server.url(), "SELECT 1/0", StoreError, False, "report this"),
        (
            postgres_server.url(),
            "DO $$ BEGIN RAISE 'full' USING ERRCODE = '53100'; END $$",
            StoreFullError,
            True,
            "free space on its disk",
        ),
        (
            postgres_server.url(options="-c%20default_transaction_read_only%3Don"),
            "CREATE TABLE x ()",
            StoreReadOnlyError,
            True,
            "accepts no writes",
        ),
        (
            postgres_server.url(),
            "SELECT pg_terminate_backend(pg_backend_pid())",
            StoreUnavailableError,
            True,
            "terminating connection",
        ),
    ]:
        async with opened(url) as database:
            with pytest.raises(kind, match=said) as caught:
                await database.rows(statement)
            assert type(caught.value) is kind
            assert getattr(caught.value, "passes", None) is passes, url
    postgres_server.ask(
        "CREATE FUNCTION denied() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM * FROM secrets; END $$"
    )
    async with opened(postgres_server.url(user="reader_of_nothing")) as database:
        with pytest.raises(StoreReadOnlyError, match="reports: permission denied for table secrets; give this role"):
            await database.rows("SELECT denied()")
    async with opened(postgres_server.url()) as database:
        with pytest.raises(InvalidInputError):
            await database.rows("SELECT %s", "a\ud800b")


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ('FATAL:  password authentication failed for user "me"', False),
        ("connection failed: fe_sendauth: no password supplied", False),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "me", no encryption', False),
        ("FATAL:  the database system is starting up", True),
        ("FATAL:  sorry, too many clients already", True),
        ("FATAL:  no more connections allowed (max_client_conn)", True),
        ("FATAL:  query_wait_timeout", True),
        ("FATAL:  server login has been failing, try again later (server_login_retry)", True),
        ("FATAL:  unsupported startup parameter: options", False),
        ('FATAL:  no such database: "calls"', False),
        ('FATAL:  no such user: "me"', False),
        ("connection failed: … FATAL:  bouncer config error", False),
        ("FATAL:  database does not allow connections: calls", False),
        ('FATAL:  permission denied for database "calls"', False),
        ('FATAL:  database "calls" is not currently accepting connections', False),
        ('FATAL:  unrecognized configuration parameter "work_men"', False),
        ("connection failed: session is read-only", True),
        ("SSL error: certificate verify failed", False),
        ('root certificate file "/a.pem" does not exist', False),
        ("connection timeout expired", True),
        ("consuming input failed: server closed the connection unexpectedly", True),
        ("consuming input failed: SSL SYSCALL error: EOF detected", True),
    ],
)
def test_what_libpq_or_a_pooler_says_is_repeated_and_a_wait_helps_or_not(said: str, passes: bool) -> None:
    url = parse_url("postgresql://me:secret-word@h/c")
    error = translated(psycopg.OperationalError(f"{said} (secret-word)"), url)
    assert isinstance(error, StoreUnavailableError)
    assert (error.passes, said.rsplit("  ", maxsplit=1)[-1] in str(error), "secret-word" in str(error)) == (
        passes,
        True,
        False,
    )


def test_a_full_disk_and_other_states_of_a_server_are_told() -> None:
    url = parse_url("postgresql://h/c")
    for raised, kind, said in [
        (errors.DiskFull("could not extend file"), StoreFullError, "free space"),
        (errors.OutOfMemory("out of shared memory"), StoreUnavailableError, "pg_stat_activity"),
        (errors.LockNotAvailable("canceling"), StoreUnavailableError, "pg_stat_activity"),
        (errors.ReadOnlySqlTransaction("cannot execute INSERT"), StoreReadOnlyError, "accepts no writes"),
        (errors.DataCorrupted("invalid page"), StoreCorruptError, "backup"),
        (errors.IdleSessionTimeout("terminating"), StoreUnavailableError, "terminating"),
        (errors.CrashShutdown("terminating"), StoreUnavailableError, "terminating"),
        (errors.TooManyConnections("too many"), StoreUnavailableError, "too many"),
        (errors.ProtocolViolation("query_wait_timeout"), StoreUnavailableError, "query_wait_timeout"),
    ]:
        error = translated(raised, url)
        assert type(error) is kind
        assert said in str(error), error


_OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'voiceflow-worker'"
STORES = 2
OF_A_PROCESS = MOST_CONNECTIONS + 1
"""One of them listens."""


@contextmanager
def watched(server: PostgresServer, *, freezes: bool) -> Generator[list[int]]:
    """How many connections of ours the server had at each look while the block ran. It may freeze each of them."""
    over = threading.Event()
    counts: list[int] = []
    frozen: set[int] = set()

    def look() -> None:
        while not over.wait(0.05):
            pids = {pid for (pid,) in server.ask(_OURS)}
            counts.append(len(pids))
            for pid in (pids - frozen) if freezes else ():
                os.kill(pid, signal.SIGSTOP)
                frozen.add(pid)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield counts
    finally:
        over.set()
        looking.join()
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("freezes", [True, False], ids=["frozen processes", "a lock"])
@pytest.mark.slow
async def test_connections_do_not_pile_up_while_statements_get_no_answer(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, *, freezes: bool
) -> None:
    """Two stores, each as a process has one, under work; and afterwards all is sent, once."""
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.5)
    voice = ScriptedVoice()
    async with AsyncExitStack() as opened, anyio.create_task_group() as group:
        stores = [await opened.enter_async_context(open_store(own_server.url(), advises=False)) for _ in range(2)]
        workers = [worker_for(store, voice) for store in stores]
        await enqueued(stores[0], 1)
        for worker in workers:
            group.start_soon(worker.run)
        await in_state(stores[0], JobState.ACCEPTED, 1)
        with watched(own_server, freezes=freezes) as counts:
            if freezes:
                await anyio.sleep(8)
            else:
                with connected(own_server.url()) as blocking:
                    blocking.execute("BEGIN; LOCK TABLE voiceflow.jobs IN ACCESS EXCLUSIVE MODE")
                    await anyio.sleep(8)
                    blocking.execute("ROLLBACK")
        assert freezes or max(counts) <= STORES * OF_A_PROCESS
        monkeypatch.undo()
        await enqueued(stores[0], 3, first=1)
        await in_state(stores[0], JobState.ACCEPTED, 4)
        for worker in workers:
            worker.stop()
    assert len(voice.placed) == 4
