"""Calls are enqueued in transactions of the caller: on psycopg's connection, also that of SQLAlchemy and Django."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.support.flows import flow, number
from tests.support.postgres import ADMINISTRATOR, DATABASE, PostgresServer
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until, wait_until
from tests.support.workers import at_work, worker_for
from voiceflow_worker import CallQueue, Job, JobState, enqueue_in, forget, open_store
from voiceflow_worker.core import worker
from voiceflow_worker.core.admission import CallRequest
from voiceflow_worker.core.ports.store import BulkWrite, Delete, Result, Write
from voiceflow_worker.core.suppression import Suppression, entry_text
from voiceflow_worker.errors import (
    InvalidInputError,
    KeyConflictError,
    StoreReadOnlyError,
    SuppressedNumberError,
)

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


class Shop:
    """A database with a store in it, and the caller's own table."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self.server = server
        self.schema = schema
        self.url = server.url()
        self.store_url = server.url(schema=schema)

    def calls(self) -> list[str]:
        """The unique keys of the calls that everybody sees."""
        return [key for (key,) in self.server.ask(f"SELECT unique_key FROM {self.schema}.jobs ORDER BY unique_key")]

    def orders(self) -> int:
        return int(self.server.ask(f"SELECT count(*) FROM {self.schema}.orders")[0][0])

    def suppress(self, number: str, until: datetime | None) -> None:
        entry = entry_text(Suppression(number=number, since=datetime.now(UTC), until=until, reason="a person asked"))
        self.put("suppressed", number, "", entry, until)

    def cancel_batch(self, batch: str) -> None:
        self.put("cancelled", "default", batch, "cancelled 0 token a person", None)

    def put(self, *values: object) -> None:
        self.server.ask(f"INSERT INTO {self.schema}.records VALUES (%s, %s, %s, %s, %s)", *values)

    def enqueue(self, connection: Any, key: str, text: str = "Your order is ready.", **options: Any) -> Job:
        """Enqueue a call under this key in the transaction of a blocking connection."""
        blocking = getattr(connection, "connection", connection)
        return enqueue_in(blocking, flow(text=text), schema=self.schema, unique_key=key, **options)

    @property
    def sqlalchemy_url(self) -> str:
        return self.url.replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture(scope="module")
def made_shop(postgres_server: PostgresServer) -> Shop:
    async def made(url: str) -> None:
        async with open_store(url):
            pass

    shop = Shop(postgres_server, f"voiceflow_{uuid4().hex[:8]}")
    asyncio.run(made(shop.store_url))
    postgres_server.ask(f"CREATE TABLE {shop.schema}.orders (name text)")
    return shop


@pytest.fixture
def shop(made_shop: Shop) -> Shop:
    tables = ("jobs", "bodies", "numbers", "additions", "noted_puts", "records", "orders")
    made_shop.server.ask("; ".join(f"DELETE FROM {made_shop.schema}.{table}" for table in tables))
    return made_shop


@pytest.fixture
async def queue(shop: Shop) -> AsyncIterator[CallQueue]:
    async with open_store(shop.store_url) as store:
        yield CallQueue(store)


# --- Each connection that can be used ------------------------------------------------------------------------------


class Blocking:
    """A transaction on a blocking connection."""

    def __init__(
        self, connection: Any, run: Callable[[str], object], commit: Callable[[], object], undo: Callable[[], object]
    ) -> None:
        self.connection, self.run, self.commit, self.undo = connection, run, commit, undo


@contextmanager
def in_psycopg(shop: Shop) -> Iterator[Blocking]:
    with psycopg.connect(shop.url) as connection:
        yield Blocking(connection, connection.execute, connection.commit, connection.rollback)


def engine_of(url: str, **options: Any) -> Any:
    """SQLAlchemy and Django are loaded by the tests that need them: they take more than a second."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(url, poolclass=NullPool, **options)


@contextmanager
def in_sqlalchemy(shop: Shop) -> Iterator[Blocking]:
    with engine_of(shop.sqlalchemy_url).connect() as connection:
        run = connection.exec_driver_sql
        run("SELECT 1")
        yield Blocking(connection.connection.driver_connection, run, connection.commit, connection.rollback)


@contextmanager
def in_django(shop: Shop) -> Iterator[Blocking]:
    from django.db import connections, transaction

    connection = django_connection(shop)

    def run(text: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(text)

    transaction.set_autocommit(False, using=connection.alias)
    try:
        run("SELECT 1")
        yield Blocking(connection.connection, run, connection.commit, connection.rollback)
    finally:
        connection.close()
        connections.close_all()


def django_connection(shop: Shop) -> Any:
    import django
    from django.conf import settings as django_settings
    from django.db import connections

    if not django_settings.configured:
        django_settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.dummy"}})
        django.setup()
    here = {"ENGINE": "django.db.backends.postgresql", "NAME": DATABASE, "USER": ADMINISTRATOR, "HOST": "127.0.0.1"}
    connections.settings[shop.schema] = {**connections.settings["default"], **here, "PORT": str(shop.server.port)}
    return connections[shop.schema]


BLOCKING = [in_psycopg, in_sqlalchemy, in_django]


@pytest.mark.parametrize("way", BLOCKING)
def test_a_blocking_transaction_has_the_order_and_the_call_or_neither(shop: Shop, way: Any) -> None:
    with way(shop) as caller:
        made: list[Job] = []
        for name, ends in [("kept", caller.commit), ("undone", caller.undo)]:
            caller.run(f"INSERT INTO {shop.schema}.orders VALUES ('{name}')")
            made.append(shop.enqueue(caller, name))
            assert made[-1].state is JobState.QUEUED
            assert "undone" not in shop.calls()
            ends()
        assert (shop.orders(), shop.calls()) == (1, ["kept"])
        assert shop.enqueue(caller, "kept") == made[0]
        with pytest.raises(KeyConflictError):
            shop.enqueue(caller, "kept", "Another.")
        caller.run(f"INSERT INTO {shop.schema}.orders VALUES ('after')")
        caller.commit()
    assert (shop.orders(), shop.calls()) == (2, ["kept"])


@asynccontextmanager
async def in_async_psycopg(shop: Shop) -> AsyncIterator[tuple[Any, Callable[[str], Any]]]:
    async with await psycopg.AsyncConnection.connect(shop.url) as connection:
        yield connection, connection.execute


def async_engine_of(shop: Shop) -> Any:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    return create_async_engine(shop.sqlalchemy_url, poolclass=NullPool)


@asynccontextmanager
async def in_async_sqlalchemy(shop: Shop) -> AsyncIterator[tuple[Any, Callable[[str], Any]]]:
    async with async_engine_of(shop).connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
        yield (await connection.get_raw_connection()).driver_connection, connection.exec_driver_sql


@asynccontextmanager
async def in_blocking_psycopg(shop: Shop) -> AsyncIterator[tuple[Any, Callable[[str], Any]]]:
    with psycopg.connect(shop.url) as connection:

        async def run(text: str) -> None:
            connection.execute(text.encode())

        yield connection, run


async def done(result: Any) -> None:
    if asyncio.iscoroutine(result):
        await result


@pytest.mark.parametrize("way", [in_async_psycopg, in_async_sqlalchemy, in_blocking_psycopg])
async def test_a_transaction_of_a_coroutine_has_the_order_and_the_call_or_neither(
    shop: Shop, queue: CallQueue, way: Any
) -> None:
    async with way(shop) as (connection, run):
        for name in ("kept", "undone"):
            await run(f"INSERT INTO {shop.schema}.orders VALUES ('{name}')")
            job = await queue.enqueue(flow(), unique_key=name, connection=connection)
            assert "undone" not in shop.calls()
            assert await queue.enqueue(flow(), unique_key=name, connection=connection) == job
            with pytest.raises(KeyConflictError):
                await queue.enqueue(flow(text="Another."), unique_key=name, connection=connection)
            await done(connection.commit() if name == "kept" else connection.rollback())
        assert (shop.orders(), shop.calls()) == (1, ["kept"])


def _has_placed(voice: ScriptedVoice, count: int) -> bool:
    return len(voice.placed) == count


async def test_an_idle_worker_sees_a_call_of_a_transaction_within_a_second(
    shop: Shop, queue: CallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "IDLE_AFTER", 0.0)
    monkeypatch.setattr(worker, "IDLE_EVERY", 3600.0)
    voice = ScriptedVoice()
    async with at_work(worker_for(queue.store, voice)):
        for place in (1, 2):
            async with in_async_psycopg(shop) as (connection, _):
                await queue.enqueue(flow(number(place)), connection=connection)
                await connection.commit()
            with anyio.fail_after(1.5):
                await until(partial(_has_placed, voice, place))


async def test_many_calls_are_all_in_it_or_none(shop: Shop, queue: CallQueue) -> None:
    async with in_async_psycopg(shop) as (connection, _):
        await queue.enqueue(flow(number(1)), unique_key="first", connection=connection)
        with pytest.raises(KeyConflictError):
            await queue.enqueue_many(
                [CallRequest(flow=flow(number(2)), unique_key=key) for key in ("a", "first", "b")],
                connection=connection,
            )
        await queue.enqueue_many(
            [CallRequest(flow=flow(number(3)), unique_key=key) for key in ("c", "d")], connection=connection
        )
        await connection.commit()
    assert shop.calls() == ["c", "d", "first"]


async def test_a_batch_is_in_it_unless_it_was_cancelled(shop: Shop, queue: CallQueue) -> None:
    async with in_async_psycopg(shop) as (connection, _):
        await queue.enqueue(flow(), batch="today", connection=connection)
        shop.cancel_batch("yesterday")
        with pytest.raises(InvalidInputError, match="yesterday was cancelled"):
            await queue.enqueue(flow(), batch="yesterday", connection=connection)
        await connection.commit()
    assert shop.server.ask(f"SELECT batch_id FROM {shop.schema}.jobs") == [("today",)]


async def test_who_has_opted_out_is_not_enqueued(shop: Shop, queue: CallQueue) -> None:
    shop.suppress(number(1), None)
    async with in_async_psycopg(shop) as (connection, _):
        with pytest.raises(SuppressedNumberError, match="a person asked"):
            await queue.enqueue(flow(number(1)), unique_key="never", connection=connection)
        with pytest.raises(SuppressedNumberError):
            await queue.enqueue_many(
                [CallRequest(flow=flow(number(place)), unique_key=f"all or none {place}") for place in (1, 3)],
                connection=connection,
            )
        await queue.enqueue(flow(number(3)), unique_key="other", connection=connection)
        await connection.commit()
    assert shop.calls() == ["other"]


# --- What cannot be used is refused by name --------------------------------------------------


def connected(change: Callable[[Any], object] = lambda _: None, **options: Any) -> Callable[[Shop], Any]:
    """A connection after this change of it."""

    def made(shop: Shop) -> Any:
        connection = psycopg.connect(shop.url, **options)
        change(connection)
        return connection

    return made


def after(*statements: str) -> Callable[[Shop], Any]:
    """A connection after these statements, of which the last one may fail."""

    def made(shop: Shop) -> Any:
        connection = psycopg.connect(shop.url)
        with suppress(psycopg.errors.DivisionByZero):
            for statement in statements:
                connection.execute(statement.format(schema=shop.schema).encode())
        return connection

    return made


def read_only(connection: Any) -> None:
    connection.read_only = True


def in_a_pipeline(connection: Any) -> None:
    connection._pipeline = psycopg.Pipeline(connection)
    connection._pipeline.__enter__()


NOBODY = ("CREATE ROLE nobody_in_particular", "SET ROLE nobody_in_particular")
HALF = ("RESET ROLE", "GRANT USAGE ON SCHEMA {schema} TO nobody_in_particular", NOBODY[1])
NAMED: list[tuple[Callable[[Shop], Any], str]] = [
    (connected(autocommit=True), "autocommit mode"),
    (connected(psycopg.Connection.close), "is closed"),
    (after("SELECT 1/0"), "has failed"),
    (connected(read_only), "read only"),
    (after("SET TRANSACTION READ ONLY"), "read only"),
    (connected(in_a_pipeline), "pipeline"),
    (after("ALTER SCHEMA {schema} RENAME TO elsewhere_{schema}"), "no store in the schema"),
    (after(*NOBODY), "permission denied"),
    (after(*NOBODY, *HALF), "permission denied"),
    (lambda _: sqlite3.connect(":memory:"), r"sqlite3\.Connection"),
    (lambda _: None, "NoneType"),
    (lambda shop: shop.url, "str"),
    (lambda shop: engine_of(shop.sqlalchemy_url), r"sqlalchemy\.engine\.base\.Engine"),
    (django_connection, r"connection\.connection of Django"),
]


@pytest.mark.parametrize(("made", "told"), NAMED)
def test_a_connection_that_cannot_be_used_is_refused_by_name(
    shop: Shop, made: Callable[[Shop], Any], told: str
) -> None:
    connection = made(shop)
    before = status_of(connection)
    try:
        with pytest.raises((InvalidInputError, StoreReadOnlyError), match=told) as refused:
            enqueue_in(connection, flow(), schema=shop.schema)
        assert "nothing was enqueued" in str(refused.value)
        assert status_of(connection) in {before, TransactionStatus.INTRANS}
        if isinstance(connection, psycopg.Connection) and before == TransactionStatus.INTRANS:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
    finally:
        if hasattr(connection, "close"):
            connection.close()


def status_of(connection: Any) -> TransactionStatus | None:
    return connection.info.transaction_status if isinstance(connection, psycopg.Connection) else None


async def test_asynchronous_connections_are_for_coroutines(shop: Shop) -> None:
    async with in_async_psycopg(shop) as (connection, _):
        with pytest.raises(InvalidInputError, match=r"await queue\.enqueue\(flow, connection=…\)"):
            enqueue_in(connection, flow(), schema=shop.schema)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/calls.db"])
async def test_other_stores_take_no_part(shop: Shop, url: str, tmp_path: Path) -> None:
    async with open_store(url.format(folder=tmp_path)) as store, in_async_psycopg(shop) as (connection, _):
        with pytest.raises(InvalidInputError, match="cannot take part in a transaction"):
            await CallQueue(store).enqueue(flow(), connection=connection)


async def test_a_connection_to_a_database_with_another_store_is_refused(shop: Shop, queue: CallQueue) -> None:
    shop.server.ask(f"CREATE DATABASE other_{shop.schema}")
    other = Shop(shop.server, shop.schema)
    other.url = other.url.replace(f"/{DATABASE}", f"/other_{shop.schema}")
    async with in_async_psycopg(other) as (connection, run):
        with pytest.raises(InvalidInputError, match="no store in the schema"):
            await queue.enqueue(flow(), connection=connection)
        async with open_store(f"{other.url}?schema={shop.schema}"):
            pass
        await connection.rollback()
        with pytest.raises(InvalidInputError, match="has another store in its schema"):
            await queue.enqueue(flow(), connection=connection)
        assert await (await run(f"SELECT count(*) FROM {shop.schema}.jobs")).fetchall() == [(0,)]


@pytest.fixture
def shops_url(shop: Shop) -> Iterator[str]:
    """The URL of the store for a role without rights, in a database where nobody may run a function without a grant."""
    shop.server.ask("CREATE ROLE shop LOGIN")
    shop.server.ask(f"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {shop.schema} FROM PUBLIC")
    yield shop.server.url(user="shop", schema=shop.schema)
    shop.server.ask(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {shop.schema} TO PUBLIC")
    shop.server.ask("DROP OWNED BY shop")
    shop.server.ask("DROP ROLE shop")


@pytest.mark.parametrize("opens", [True, False])
async def test_a_role_needs_only_the_rights_that_the_page_names(shop: Shop, shops_url: str, opens: bool) -> None:
    """A role that opens the store, and one with a connection alone; both enqueue in transactions of their own."""
    name, role = ("stores.md", "calls") if opens else ("python.md", "shop")
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    (rights,) = re.findall(rf"(?:GRANT [^;`]* TO {role};\s*)+", page)
    for right in rights.split(";")[:-1]:
        shop.server.ask(right.replace("voiceflow", shop.schema).replace(f"TO {role}", "TO shop"))
    async with (
        open_store(shops_url if opens else shop.store_url) as store,
        await psycopg.AsyncConnection.connect(shop.server.url(user="shop")) as connection,
    ):
        queue = CallQueue(store)
        for key in ("a", "a", "b"):
            async with connection.transaction():
                job = await queue.enqueue(flow(), connection=connection, unique_key=key, batch="new")
            assert (await queue.get(job.id)).state is JobState.QUEUED
    with psycopg.connect(shop.server.url(user="shop")) as connection:
        shop.enqueue(connection, "c", batch="new")
    assert shop.calls() == ["a", "b", "c"]


# --- What callers have set ------------------------------------------------------------------------------------------


SETTINGS = [
    "SET client_encoding = 'latin1'",
    "SET client_encoding = 'sjis'",
    "SET search_path = nowhere",
    "CREATE FUNCTION pg_temp.decode(text, text) RETURNS bytea LANGUAGE sql AS 'SELECT NULL::bytea'",
    "SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Kathmandu'; SET intervalstyle = 'sql_standard'",
    "SET standard_conforming_strings = off; SET bytea_output = 'escape'; SET extra_float_digits = -15",
    "SET default_transaction_isolation = 'serializable'",
    "SET default_transaction_isolation = 'repeatable read'",
    "SET statement_timeout = '5s'; SET lock_timeout = '1s'; SET idle_in_transaction_session_timeout = '5s'",
    "SET plan_cache_mode = force_generic_plan; SET enable_indexscan = off",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, DEFERRABLE",
]


@pytest.mark.parametrize("setting", SETTINGS)
async def test_what_the_session_has_set_changes_nothing(shop: Shop, queue: CallQueue, setting: str) -> None:
    with psycopg.connect(shop.url) as connection:
        connection.execute(setting.encode())
        connection.commit()
        job = enqueued_twice(connection, shop)
        connection.commit()
        assert (await queue.enqueue(flow(), connection=connection)).state is JobState.QUEUED
        connection.rollback()
    assert (await queue.find(batch_id="täglich")) == [job]


TEXT = "Grüezi ☎ 電話, O'Neil \\ 100% %s {name}; 😀"


def enqueued_twice(connection: Any, shop: Shop) -> Job:
    words: dict[str, Any] = {
        "schema": shop.schema,
        "unique_key": TEXT,
        "batch": "täglich",
        "data": {"order": TEXT},
        "priority": -3,
    }
    job = enqueue_in(connection, flow(text=TEXT), valid_for=timedelta(hours=1), **words)
    assert enqueue_in(connection, flow(text=TEXT), valid_for=timedelta(hours=1), **words) == job
    with pytest.raises(KeyConflictError):
        enqueue_in(connection, flow(text="Another."), **words)
    assert abs(job.created_at - datetime.now(UTC)) < timedelta(seconds=60)
    assert job.valid_until == job.created_at + timedelta(hours=1)
    return job


# --- Races, and what goes wrong in the middle -----------------------------------------------------------------------


@contextmanager
def waiting_for_the_key(shop: Shop, text: str = "The same.") -> Iterator[Future[Job]]:
    """An enqueue with the key that another transaction has stored, once it waits for the end of that."""
    with ThreadPoolExecutor(1) as pool, psycopg.connect(shop.url) as connection:

        def enqueue() -> Job:
            job = shop.enqueue(connection, "raced", text)
            connection.commit()
            return job

        result = pool.submit(enqueue)
        wait_until(lambda: shop.server.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)], "a wait")
        yield result


def test_of_two_transactions_with_one_key_the_second_waits_and_gets_the_call_of_the_first(shop: Shop) -> None:
    with in_psycopg(shop) as first:
        job = shop.enqueue(first, "raced", "The same.")
        with waiting_for_the_key(shop) as second:
            shop.server.ask("SELECT pg_sleep(0.6)")  # longer than a bulk write of a worker would wait
            first.commit()
            assert second.result(10) == job
    assert shop.calls() == ["raced"]


def test_the_second_stores_its_own_when_the_first_is_rolled_back(shop: Shop) -> None:
    with in_psycopg(shop) as first:
        job = shop.enqueue(first, "raced", "The same.")
        with waiting_for_the_key(shop, "Another.") as second:
            first.undo()
            assert second.result(10).id != job.id
    assert shop.calls() == ["raced"]


def test_the_second_is_told_that_the_first_has_another_body_and_its_transaction_goes_on(shop: Shop) -> None:
    with in_psycopg(shop) as first, in_psycopg(shop) as second, ThreadPoolExecutor(1) as pool:
        shop.enqueue(first, "raced")
        second.run(f"INSERT INTO {shop.schema}.orders VALUES ('mine')")
        waits = pool.submit(shop.enqueue, second, "raced", "Another.")
        wait_until(lambda: shop.server.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)], "a wait")
        first.commit()
        with pytest.raises(KeyConflictError):
            waits.result(10)
        shop.enqueue(second, "own", "Another.")
        second.commit()
    assert (shop.calls(), shop.orders()) == (["own", "raced"], 1)


@pytest.mark.parametrize("is_gone", [False, True])
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_call_that_came_since_the_snapshot_of_a_transaction_is_made_once_and_the_transaction_stays_usable(
    shop: Shop, queue: CallQueue, isolation: str, *, is_gone: bool
) -> None:
    """It may have ended and been deleted meanwhile, too: the transaction sees neither it nor its tombstone."""
    with in_psycopg(shop) as caller:
        caller.run(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        caller.run("SELECT 1")
        job = await queue.enqueue(flow(), unique_key="raced")
        if is_gone:
            gone = BulkWrite(writes=(Write(changes=(Delete(job, job.created_at + timedelta(days=1)),)),))
            assert [answer.result for answer in await queue.store.write(gone, now=job.created_at)] == [Result.DONE]
        with pytest.raises(psycopg.errors.SerializationFailure):
            shop.enqueue(caller, "raced")
        shop.enqueue(caller, "own")
        caller.commit()
        assert shop.enqueue(caller, "raced").id == job.id
    assert shop.calls() == (["own"] if is_gone else ["own", "raced"])


def test_savepoints_of_the_caller_count(shop: Shop) -> None:
    with in_psycopg(shop) as caller:
        for name in ("voiceflow_enqueue", "their_own"):
            caller.run(f"SAVEPOINT {name}")
            shop.enqueue(caller, f"undone {name}")
            caller.run(f"ROLLBACK TO SAVEPOINT {name}")
            shop.enqueue(caller, f"kept {name}")
            caller.run(f"RELEASE SAVEPOINT {name}")
        with caller.connection.transaction():
            shop.enqueue(caller, "in a block")
        caller.commit()
    assert shop.calls() == ["in a block", "kept their_own", "kept voiceflow_enqueue"]


async def test_a_cancelled_enqueue_leaves_no_call(shop: Shop, queue: CallQueue) -> None:
    with in_psycopg(shop) as other:
        shop.enqueue(other, "raced")
        async with in_async_psycopg(shop) as (connection, _):
            await queue.enqueue(flow(), unique_key="before", connection=connection)
            with anyio.move_on_after(0.2) as scope:
                await queue.enqueue(flow(), unique_key="raced", connection=connection)
            assert scope.cancelled_caught
            other.undo()
            with suppress(psycopg.Error):
                await connection.commit()
    assert "raced" not in shop.calls()


async def test_one_transaction_enqueues_one_call_after_the_other(shop: Shop, queue: CallQueue) -> None:
    async with in_async_psycopg(shop) as (connection, _):
        await queue.enqueue(flow(), unique_key="before", connection=connection)
        told = await asyncio.gather(
            *(queue.enqueue(flow(), unique_key=key, connection=connection) for key in ("a", "b", "c")),
            return_exceptions=True,
        )
        await connection.commit()
    assert [type(each) for each in told] == [Job, InvalidInputError, InvalidInputError]
    assert "enqueue one after the other" in str(told[1])
    assert shop.calls() == ["a", "before"]


ERASED = "+6591239876"


def values_in_statistics(shop: Shop) -> str:
    """The values of rows that the planner has noted, and that everybody may read."""
    shop.server.ask(f"ANALYZE {shop.schema}.jobs, {shop.schema}.bodies, {shop.schema}.numbers, {shop.schema}.records")
    found = "most_common_vals::text, histogram_bounds::text"
    return f"{shop.server.ask(f'SELECT {found} FROM pg_stats WHERE schemaname = %s', shop.schema)}"


@pytest.mark.slow
async def test_a_call_in_a_queue_that_nobody_knows_yet_is_erased(shop: Shop, queue: CallQueue) -> None:
    async with in_async_psycopg(shop) as (connection, _):
        for place in range(1002):
            await CallQueue(queue.store, f"new-{place % 2}").enqueue(flow(number(place)), connection=connection)
        await CallQueue(queue.store, "newest").enqueue(flow(ERASED), data={"name": "Quetzal"}, connection=connection)
        await connection.commit()
    assert ERASED not in values_in_statistics(shop)
    assert "Quetzal" not in values_in_statistics(shop)
    receipt: Any = await forget(queue.store, ERASED)
    assert (receipt["erased"]["calls"], receipt["cancelled"]) == (1, 1)
    assert shop.server.ask(f"SELECT count(*) FROM {shop.schema}.jobs")[0][0] == 1002
