"""Calls are enqueued in transactions of the caller: each connection that people have, and each that cannot be used."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, scalar_row
from psycopg.types.json import set_json_loads

from tests.support.flows import flow, number
from tests.support.postgres import ADMINISTRATOR, DATABASE, PostgresServer
from tests.support.waiting import until, wait_until
from voiceflow_worker import CallQueue, Job, JobState, enqueue_in, forget, open_store
from voiceflow_worker.core.admission import CallRequest
from voiceflow_worker.core.ports.store import CLOSED, CLOSED_KEY, BulkWrite, Delete, Put, Result, Write
from voiceflow_worker.core.store_copy import copyable
from voiceflow_worker.core.suppression import Suppression, entry_text
from voiceflow_worker.errors import (
    InvalidInputError,
    KeyConflictError,
    StoreClosedError,
    StoreReadOnlyError,
    SuppressedNumberError,
)

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


class UndoneError(Exception):
    """What ends a block whose transaction is to be undone."""


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

    def sqlalchemy_url(self, driver: str = "psycopg") -> str:
        return self.url.replace("postgresql:", f"postgresql+{driver}:")


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
    with engine_of(shop.sqlalchemy_url()).connect() as connection:
        yield Blocking(connection, connection.exec_driver_sql, connection.commit, connection.rollback)


@contextmanager
def in_session(shop: Shop) -> Iterator[Blocking]:
    from sqlalchemy import text as statement
    from sqlalchemy.orm import Session

    with Session(engine_of(shop.sqlalchemy_url())) as session:
        yield Blocking(session, lambda text: session.execute(statement(text)), session.commit, session.rollback)


@contextmanager
def in_django(shop: Shop) -> Iterator[Blocking]:
    from django.db import connections, transaction

    connection = django_connection(shop)

    def run(text: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(text)

    transaction.set_autocommit(False, using=connection.alias)
    try:
        yield Blocking(connection, run, connection.commit, connection.rollback)
    finally:
        connection.close()
        connections.close_all()


def django_connection(shop: Shop, name: str = "", **settings: str) -> Any:
    import django
    from django.conf import settings as django_settings
    from django.db import connections

    if not django_settings.configured:
        django_settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.dummy"}})
        django.setup()
    name = name or shop.schema
    here = {"ENGINE": "django.db.backends.postgresql", "NAME": DATABASE, "USER": ADMINISTRATOR, "HOST": "127.0.0.1"}
    connections.settings[name] = {
        **connections.settings["default"], **here, "PORT": str(shop.server.port), **settings,
    }  # fmt: skip
    return connections[name]


class OtherError(Exception):
    """An error of another driver, which tells its SQLSTATE."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.pgcode = error.sqlstate


class OtherCursor:
    """A cursor as PEP 249 has it."""

    def __init__(self, inner: psycopg.Cursor[Any]) -> None:
        self.inner = inner
        self.fetchone, self.close = inner.fetchone, inner.close

    def execute(self, statement: str) -> None:
        try:
            self.inner.execute(statement.encode())
        except psycopg.Error as error:
            raise OtherError(error) from None

    @property
    def description(self) -> object:
        return self.inner.description


class OtherDriver:
    """A connection of a driver that is not installed here."""

    def __init__(self, inner: psycopg.Connection[Any]) -> None:
        self.inner = inner
        self.close = inner.close

    def cursor(self) -> OtherCursor:
        return OtherCursor(self.inner.cursor())


@contextmanager
def in_another_driver(shop: Shop) -> Iterator[Blocking]:
    with psycopg.connect(shop.url) as connection:
        yield Blocking(OtherDriver(connection), connection.execute, connection.commit, connection.rollback)


BLOCKING = [in_psycopg, in_sqlalchemy, in_session, in_django, in_another_driver]


@pytest.mark.parametrize("way", BLOCKING)
def test_a_blocking_transaction_has_the_order_and_the_call_or_neither(shop: Shop, way: Any) -> None:
    with way(shop) as caller:
        made: list[Job] = []
        for name, ends in [("kept", caller.commit), ("undone", caller.undo)]:
            caller.run(f"INSERT INTO {shop.schema}.orders VALUES ('{name}')")
            made.append(enqueue_in(caller.connection, flow(), schema=shop.schema, unique_key=name))
            assert made[-1].state is JobState.QUEUED
            assert "undone" not in shop.calls()
            ends()
        assert (shop.orders(), shop.calls()) == (1, ["kept"])
        assert enqueue_in(caller.connection, flow(), schema=shop.schema, unique_key="kept") == made[0]
        with pytest.raises(KeyConflictError):
            enqueue_in(caller.connection, flow(text="Another."), schema=shop.schema, unique_key="kept")
        caller.run(f"INSERT INTO {shop.schema}.orders VALUES ('after')")
        caller.commit()
    assert (shop.orders(), shop.calls()) == (2, ["kept"])


def test_django_has_them_in_atomic_blocks(shop: Shop) -> None:
    from django.db import transaction

    connection = django_connection(shop)
    try:
        with transaction.atomic(using=connection.alias):
            enqueue_in(connection, flow(), schema=shop.schema, unique_key="outer")
            with suppress(UndoneError), transaction.atomic(using=connection.alias):
                enqueue_in(connection, flow(number(1)), schema=shop.schema, unique_key="inner")
                raise UndoneError
            with pytest.raises(KeyConflictError), transaction.atomic(using=connection.alias):
                enqueue_in(connection, flow(number(2)), schema=shop.schema, unique_key="outer")
            assert shop.calls() == []
        assert shop.calls() == ["outer"]
        with pytest.raises(InvalidInputError, match=r"transaction\.atomic\(\)"):
            enqueue_in(connection, flow(), schema=shop.schema)
    finally:
        connection.close()


@asynccontextmanager
async def in_async_psycopg(shop: Shop) -> AsyncIterator[tuple[Any, Callable[[str], Any]]]:
    async with await psycopg.AsyncConnection.connect(shop.url) as connection:
        yield connection, connection.execute


def async_engine_of(shop: Shop) -> Any:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    return create_async_engine(shop.sqlalchemy_url(), poolclass=NullPool)


@asynccontextmanager
async def in_async_sqlalchemy(shop: Shop) -> AsyncIterator[tuple[Any, Callable[[str], Any]]]:
    async with async_engine_of(shop).connect() as connection:
        yield connection, connection.exec_driver_sql


@asynccontextmanager
async def in_async_session(shop: Shop) -> AsyncIterator[tuple[Any, Callable[[str], Any]]]:
    from sqlalchemy import text as statement
    from sqlalchemy.ext.asyncio import AsyncSession

    async with AsyncSession(async_engine_of(shop)) as session:
        yield session, lambda text: session.execute(statement(text))


@asynccontextmanager
async def in_blocking_psycopg(shop: Shop) -> AsyncIterator[tuple[Any, Callable[[str], Any]]]:
    with psycopg.connect(shop.url) as connection:

        async def run(text: str) -> None:
            connection.execute(text.encode())

        yield connection, run


async def done(result: Any) -> None:
    if asyncio.iscoroutine(result):
        await result


@pytest.mark.parametrize("way", [in_async_psycopg, in_async_sqlalchemy, in_async_session, in_blocking_psycopg])
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
        await queue.enqueue(flow(), batch_id="today", connection=connection)
        shop.cancel_batch("yesterday")
        with pytest.raises(InvalidInputError, match="yesterday was cancelled"):
            await queue.enqueue(flow(), batch_id="yesterday", connection=connection)
        await connection.commit()
    assert shop.server.ask(f"SELECT batch_id FROM {shop.schema}.jobs") == [("today",)]


async def test_who_has_opted_out_is_not_enqueued(shop: Shop, queue: CallQueue) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    shop.suppress(number(1), None)
    shop.suppress(number(2), later)
    async with in_async_psycopg(shop) as (connection, _):
        with pytest.raises(SuppressedNumberError, match="a person asked"):
            await queue.enqueue(flow(number(1)), unique_key="never", connection=connection)
        with pytest.raises(SuppressedNumberError):
            await queue.enqueue_many(
                [CallRequest(flow=flow(number(place)), unique_key=f"all or none {place}") for place in (1, 3)],
                connection=connection,
            )
        after = later + timedelta(hours=1)
        await queue.enqueue(flow(number(2)), not_before=after, unique_key="later", connection=connection)
        await queue.enqueue_many(
            [CallRequest(flow=flow(number(place)), not_before=after, unique_key=f"later {place}") for place in (2, 3)],
            connection=connection,
        )
        await connection.commit()
    assert shop.calls() == ["later", "later 2", "later 3"]


# --- What cannot be used is refused by name --------------------------------------------------


def autocommitting(shop: Shop) -> Any:
    return psycopg.connect(shop.url, autocommit=True)


def closed(shop: Shop) -> Any:
    connection = psycopg.connect(shop.url)
    connection.close()
    return connection


def failed(shop: Shop) -> Any:
    connection = psycopg.connect(shop.url)
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT 1/0")
    return connection


def read_only(shop: Shop) -> Any:
    connection = psycopg.connect(shop.url)
    connection.read_only = True
    return connection


def read_only_transaction(shop: Shop) -> Any:
    connection = psycopg.connect(shop.url)
    connection.execute("SET TRANSACTION READ ONLY")
    return connection


def in_a_pipeline(shop: Shop) -> Any:
    connection = psycopg.connect(shop.url)
    connection._pipeline = psycopg.Pipeline(connection)
    connection._pipeline.__enter__()
    return connection


def without_tables(shop: Shop) -> Any:
    connection = psycopg.connect(shop.url)
    connection.execute(f"ALTER SCHEMA {shop.schema} RENAME TO elsewhere_{shop.schema}".encode())
    return connection


def without_rights(shop: Shop) -> Any:
    connection = psycopg.connect(shop.url)
    connection.execute("CREATE ROLE nobody_in_particular")
    connection.execute("SET ROLE nobody_in_particular")
    return connection


def with_half_the_rights(shop: Shop) -> Any:
    connection = without_rights(shop)
    connection.execute(
        f"RESET ROLE; GRANT USAGE ON SCHEMA {shop.schema} TO nobody_in_particular; SET ROLE nobody_in_particular"
    )
    return connection


def of_sqlalchemy(url: str, **options: Any) -> Callable[[Shop], Any]:
    def connected(shop: Shop) -> Any:
        return engine_of(url or shop.sqlalchemy_url(), **options).connect()

    return connected


def failed_session(shop: Shop) -> Any:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.orm import Session

    session = Session(engine_of(shop.sqlalchemy_url()))
    with pytest.raises(DBAPIError):
        session.execute(text("SELECT 1/0"))
    return session


def outside_atomic(shop: Shop) -> Any:
    return django_connection(shop)


def django_on_sqlite(shop: Shop) -> Any:
    return django_connection(shop, "lite", ENGINE="django.db.backends.sqlite3", NAME=":memory:")


NAMED: list[tuple[Callable[[Shop], Any], str]] = [
    (autocommitting, "autocommit mode"),
    (lambda shop: OtherDriver(autocommitting(shop)), "autocommit mode"),
    (lambda shop: OtherDriver(failed(shop)), "has failed"),
    (closed, "is closed"),
    (failed, "has failed"),
    (read_only, "read only"),
    (read_only_transaction, "read only"),
    (in_a_pipeline, "pipeline"),
    (without_tables, "no store in the schema"),
    (without_rights, "permission denied"),
    (with_half_the_rights, "permission denied"),
    (lambda _: sqlite3.connect(":memory:"), r"sqlite3\.Connection"),
    (lambda _: None, "NoneType"),
    (lambda shop: shop.url, "str"),
    (of_sqlalchemy("", isolation_level="AUTOCOMMIT"), "autocommit mode"),
    (of_sqlalchemy("sqlite://"), "sqlite"),
    (lambda shop: engine_of(shop.sqlalchemy_url()), r"sqlalchemy\.engine\.base\.Engine"),
    (failed_session, "has failed"),
    (outside_atomic, r"transaction\.atomic\(\)"),
    (django_on_sqlite, "sqlite"),
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
    for way in (in_async_psycopg, in_async_sqlalchemy, in_async_session):
        async with way(shop) as (connection, _):
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
                job = await queue.enqueue(flow(), connection=connection, unique_key=key, batch_id="new")
            assert (await queue.get(job.id)).state is JobState.QUEUED
    with psycopg.connect(shop.server.url(user="shop")) as connection:
        enqueue_in(connection, flow(), schema=shop.schema, unique_key="c", batch_id="new")
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


def changed_loaders(connection: psycopg.Connection[Any]) -> None:
    class Odd(psycopg.adapt.Loader):
        def load(self, _: object) -> object:
            return ["odd"]

    class OddDumper(psycopg.adapt.Dumper):
        def dump(self, _: object) -> bytes:
            return b"odd"

    set_json_loads(lambda _: "odd", connection)
    for name in ("text", "json", "jsonb", "timestamptz", "int8", "bytea"):
        connection.adapters.register_loader(name, Odd)
    for kind in (str, bytes, dict, int):
        connection.adapters.register_dumper(kind, OddDumper)


def changed_rows(row_factory: Any) -> Callable[[psycopg.Connection[Any]], None]:
    def change(connection: psycopg.Connection[Any]) -> None:
        connection.row_factory = row_factory

    return change


def changed_cursors(connection: psycopg.Connection[Any]) -> None:
    class Broken(psycopg.Cursor[Any]):
        def execute(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    connection.cursor_factory = Broken


def prepares_at_once(connection: psycopg.Connection[Any]) -> None:
    connection.prepare_threshold = 0


CHANGES = [changed_loaders, changed_rows(dict_row), changed_rows(scalar_row), changed_cursors, prepares_at_once]


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_connection_has_set_changes_nothing(shop: Shop, change: Callable[[Any], None]) -> None:
    with psycopg.connect(shop.url) as connection:
        change(connection)
        job = enqueued_twice(connection, shop)
    assert read_back(shop) == job


TEXT = "Grüezi ☎ 電話, O'Neil \\ 100% %s {name}; 😀"


def enqueued_twice(connection: Any, shop: Shop) -> Job:
    words: dict[str, Any] = {
        "schema": shop.schema,
        "unique_key": TEXT,
        "batch_id": "täglich",
        "data": {"order": TEXT},
        "priority": -3,
    }
    job = enqueue_in(connection, flow(text=TEXT), valid_for=timedelta(hours=1), **words)
    assert enqueue_in(connection, flow(text=TEXT), valid_for=timedelta(hours=2), **words) == job
    with pytest.raises(KeyConflictError):
        enqueue_in(connection, flow(text="Another."), **words)
    assert abs(job.created_at - datetime.now(UTC)) < timedelta(seconds=60)
    assert job.valid_until == job.created_at + timedelta(hours=1)
    return job


def read_back(shop: Shop) -> Job:
    async def read() -> Job:
        async with open_store(shop.store_url) as store:
            return (await CallQueue(store).find(batch_id="täglich"))[0]

    return asyncio.run(read())


# --- Races, and what goes wrong in the middle -----------------------------------------------------------------------


@contextmanager
def waiting_for_the_key(shop: Shop, text: str = "The same.") -> Iterator[Future[Job]]:
    """An enqueue with the key that another transaction has stored, once it waits for the end of that."""
    with ThreadPoolExecutor(1) as pool, psycopg.connect(shop.url) as connection:

        def enqueue() -> Job:
            job = enqueue_in(connection, flow(text=text), schema=shop.schema, unique_key="raced")
            connection.commit()
            return job

        result = pool.submit(enqueue)
        wait_until(lambda: shop.server.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)], "a wait")
        yield result


@pytest.mark.parametrize("way", BLOCKING)
def test_of_two_transactions_with_one_key_the_second_waits_and_gets_the_call_of_the_first(shop: Shop, way: Any) -> None:
    with way(shop) as first:
        job = enqueue_in(first.connection, flow(text="The same."), schema=shop.schema, unique_key="raced")
        with waiting_for_the_key(shop) as second:
            shop.server.ask("SELECT pg_sleep(0.6)")  # longer than a bulk write of a worker would wait
            first.commit()
            assert second.result(10) == job
    assert shop.calls() == ["raced"]


def test_the_second_stores_its_own_when_the_first_is_rolled_back(shop: Shop) -> None:
    with in_psycopg(shop) as first:
        job = enqueue_in(first.connection, flow(text="The same."), schema=shop.schema, unique_key="raced")
        with waiting_for_the_key(shop, "Another.") as second:
            first.undo()
            assert second.result(10).id != job.id
    assert shop.calls() == ["raced"]


def test_the_second_is_told_that_the_first_has_another_body_and_its_transaction_goes_on(shop: Shop) -> None:
    with in_psycopg(shop) as first, in_psycopg(shop) as second, ThreadPoolExecutor(1) as pool:
        enqueue_in(first.connection, flow(), schema=shop.schema, unique_key="raced")
        second.run(f"INSERT INTO {shop.schema}.orders VALUES ('mine')")
        waits = pool.submit(
            enqueue_in, second.connection, flow(text="Another."), schema=shop.schema, unique_key="raced"
        )
        wait_until(lambda: shop.server.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)], "a wait")
        first.commit()
        with pytest.raises(KeyConflictError):
            waits.result(10)
        enqueue_in(second.connection, flow(text="Another."), schema=shop.schema, unique_key="own")
        second.commit()
    assert (shop.calls(), shop.orders()) == (["own", "raced"], 1)


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_serialization_failure_is_the_callers_own_and_leaves_the_transaction_usable(
    shop: Shop, isolation: str
) -> None:
    with in_psycopg(shop) as first, in_psycopg(shop) as second:
        second.run(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        second.run("SELECT 1")
        enqueue_in(first.connection, flow(), schema=shop.schema, unique_key="raced")
        first.commit()
        with pytest.raises(psycopg.errors.SerializationFailure):
            enqueue_in(second.connection, flow(), schema=shop.schema, unique_key="raced")
        enqueue_in(second.connection, flow(), schema=shop.schema, unique_key="own")
        second.commit()
    assert shop.calls() == ["own", "raced"]


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_call_that_came_and_went_since_the_snapshot_of_a_transaction_is_made_once(
    shop: Shop, queue: CallQueue, isolation: str
) -> None:
    """It was stored, ended and deleted meanwhile: the transaction sees neither it nor its tombstone."""
    with in_psycopg(shop) as callers:
        callers.run(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        callers.run("SELECT 1")
        job = await queue.enqueue(flow(), unique_key="raced")
        keep = queue.store.clock.now() + timedelta(days=1)
        gone = BulkWrite(writes=(Write(changes=(Delete(job, keep),)),))
        assert [answer.result for answer in await queue.store.write(gone, now=job.created_at)] == [Result.DONE]
        with pytest.raises(psycopg.errors.SerializationFailure):
            enqueue_in(callers.connection, flow(), schema=shop.schema, unique_key="raced")
        enqueue_in(callers.connection, flow(), schema=shop.schema, unique_key="own")
        callers.commit()
        assert enqueue_in(callers.connection, flow(), schema=shop.schema, unique_key="raced").id == job.id
    assert shop.calls() == ["own"]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_a_transaction_enqueues_nothing_in_a_store_that_was_closed_meanwhile(
    shop: Shop, queue: CallQueue, isolation: str
) -> None:
    """What it has enqueued before is waited for, so that it is copied."""
    with in_psycopg(shop) as before, in_psycopg(shop) as callers:
        enqueue_in(before.connection, flow(), schema=shop.schema, unique_key="before")
        callers.run(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        callers.run("SELECT 1")
        closing = BulkWrite(writes=(Write(puts=(Put(CLOSED, CLOSED_KEY, "it moved", None),)),))
        await queue.store.write(closing, now=queue.store.clock.now())
        with pytest.raises((StoreClosedError, psycopg.errors.SerializationFailure)):
            enqueue_in(callers.connection, flow(), schema=shop.schema, unique_key="own")
        callers.connection.rollback()
        with pytest.raises(StoreClosedError, match="it moved"):
            enqueue_in(callers.connection, flow(), schema=shop.schema, unique_key="own")
        callers.connection.rollback()
        async with anyio.create_task_group() as group:
            group.start_soon(copyable(queue.store).contents)
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareLock' AND relation = %s::regclass"
            await until(lambda: shop.server.ask(waits, f"{shop.schema}.jobs") == [(1,)])
            before.commit()
    assert shop.calls() == ["before"]


def test_a_time_limit_of_the_caller_leaves_the_transaction_usable(shop: Shop) -> None:
    from sqlalchemy.exc import OperationalError

    with in_psycopg(shop) as first, in_sqlalchemy(shop) as second:
        enqueue_in(first.connection, flow(), schema=shop.schema, unique_key="raced")
        for limit in ("lock_timeout", "statement_timeout"):
            second.run(f"SET LOCAL {limit} = '100ms'")
            with pytest.raises(OperationalError) as failed:
                enqueue_in(second.connection, flow(), schema=shop.schema, unique_key="raced")
            assert isinstance(failed.value.orig, (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled))
        enqueue_in(second.connection, flow(), schema=shop.schema, unique_key="own")
        second.commit()
    assert shop.calls() == ["own", "raced"]


def test_savepoints_of_the_caller_count(shop: Shop) -> None:
    with in_psycopg(shop) as caller:
        for name in ("voiceflow_enqueue", "their_own"):
            caller.run(f"SAVEPOINT {name}")
            enqueue_in(caller.connection, flow(), schema=shop.schema, unique_key=f"undone {name}")
            caller.run(f"ROLLBACK TO SAVEPOINT {name}")
            enqueue_in(caller.connection, flow(), schema=shop.schema, unique_key=f"kept {name}")
            caller.run(f"RELEASE SAVEPOINT {name}")
        with caller.connection.transaction():
            enqueue_in(caller.connection, flow(), schema=shop.schema, unique_key="in a block")
        caller.commit()
    assert shop.calls() == ["in a block", "kept their_own", "kept voiceflow_enqueue"]


def test_a_connection_in_autocommit_mode_has_them_in_a_transaction_that_was_begun(shop: Shop) -> None:
    with psycopg.connect(shop.url, autocommit=True) as connection:
        with suppress(UndoneError), connection.transaction():
            enqueue_in(connection, flow(), schema=shop.schema, unique_key="undone")
            raise UndoneError
        with connection.transaction():
            enqueue_in(connection, flow(), schema=shop.schema, unique_key="kept")
    assert shop.calls() == ["kept"]


@pytest.mark.parametrize("way", [in_async_psycopg, in_async_session])
async def test_a_cancelled_enqueue_leaves_no_call(shop: Shop, queue: CallQueue, way: Any) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    with in_psycopg(shop) as other:
        enqueue_in(other.connection, flow(), schema=shop.schema, unique_key="raced")
        async with way(shop) as (connection, _):
            await queue.enqueue(flow(), unique_key="before", connection=connection)
            with anyio.move_on_after(0.2) as scope:
                await queue.enqueue(flow(), unique_key="raced", connection=connection)
            assert scope.cancelled_caught
            other.undo()
            with suppress(psycopg.Error, SQLAlchemyError):
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


async def test_a_broken_connection_is_the_callers_own_failure(shop: Shop, queue: CallQueue) -> None:
    async with in_async_psycopg(shop) as (connection, run):
        await run("SELECT 1")
        shop.server.ask("SELECT pg_terminate_backend(%s, 10000)", connection.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            await queue.enqueue(flow(), connection=connection)
        with pytest.raises(InvalidInputError, match="is closed"):
            await queue.enqueue(flow(), connection=connection)


def test_plans_of_functions_that_avoid_scans_are_not_compiled() -> None:
    """A scan that cannot be avoided looks so dear that it would be compiled, which takes 50 ms each time."""
    folder = ROOT / "voiceflow_worker" / "backends" / "postgres"
    heads = re.findall(
        r"^CREATE FUNCTION .*?AS \$\$", "".join(map(Path.read_text, folder.glob("*.sql"))), re.DOTALL | re.MULTILINE
    )
    avoiding = [head for head in heads if "enable_seqscan = off" in head]
    assert len(avoiding) > 3
    assert [head for head in avoiding if "jit = off" not in head] == []


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


async def test_whoever_was_erased_is_not_enqueued(shop: Shop, queue: CallQueue) -> None:
    job = await queue.enqueue(flow(), unique_key="mine")
    await forget(queue.store, job.destination)
    async with in_async_psycopg(shop) as (connection, _):
        known = await queue.enqueue(flow(), unique_key="mine", connection=connection)
        await connection.commit()
    assert known.id == job.id
    assert shop.calls() == []
