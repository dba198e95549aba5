"""Opening a PostgreSQL store: what is refused, the making of the schema, three roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.contract.suite import ManualClock, sample_job
from tests.support.postgres import READS, WORKS, PostgresServer, granted
from tests.support.waiting import until
from voiceflow_worker.backends.health import Guarantee
from voiceflow_worker.backends.postgres import PostgresStore, opening
from voiceflow_worker.backends.postgres.database import MOST_CONNECTIONS
from voiceflow_worker.backends.postgres.opening import open_postgres
from voiceflow_worker.backends.postgres.survey import Facts, durability_from
from voiceflow_worker.backends.postgres.url import parse_url
from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.ports.controls import Limits, limits_put
from voiceflow_worker.core.ports.reads import ById
from voiceflow_worker.core.ports.store import BulkWrite, Insert, Put, Slot, Write
from voiceflow_worker.errors import (
    SettingsError,
    StoreCorruptError,
    StoreError,
    StoreNotDurableError,
    StoreReadOnlyError,
    StoreUnavailableError,
    VoiceflowError,
)
from voiceflow_worker.model.jobs.gcra import SendSlot

pytestmark = pytest.mark.anyio

TABLES = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p')"


class Place:
    """A schema that is not there yet, and roles for it, which are dropped at the end."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self.server, self.schema, self.ask = server, schema, server.ask

    def url(self, user: str | None = None, **options: str) -> str:
        return self.server.url(schema=self.schema, **({"user": user} if user else {}), **options)

    def role(self, name: str, *settings: str) -> str:
        """A role that may log in, with settings."""
        named = f"{self.schema}_{name}"
        self.ask(f"DROP ROLE IF EXISTS {named}")
        self.ask(f"CREATE ROLE {named} LOGIN")
        for setting in settings:
            self.ask(f"ALTER ROLE {named} SET {setting}")
        return named

    def owner(self, name: str, *settings: str) -> str:
        """A role that owns the schema."""
        user = self.role(name, *settings)
        self.ask(f"CREATE SCHEMA {self.schema} AUTHORIZATION {user}")
        return user

    def tables(self) -> int:
        ((count,),) = self.ask(TABLES, self.schema)
        return int(count)


@pytest.fixture
def at(postgres_server: PostgresServer, schema: str) -> Place:
    return Place(postgres_server, schema)


@asynccontextmanager
async def opened(url: str, **options: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres(url, **options) as store:  # type: ignore[arg-type]
        yield store


async def refused(url: str, **options: str) -> VoiceflowError:
    with pytest.raises(VoiceflowError) as caught:
        async with opened(url, **options):
            pass
    return caught.value


async def test_a_making_that_is_cut_at_any_moment_leaves_all_or_nothing(at: Place) -> None:
    async with opened(at.url()):
        whole = at.tables()
    at.ask(f"DROP SCHEMA {at.schema} CASCADE")
    found = set[int]()
    for milliseconds in range(0, 120, 10):
        task = asyncio.create_task(anext(opened(at.url()).gen))
        await asyncio.sleep(milliseconds / 1000)
        task.cancel()
        await asyncio.wait([task])
        found.add(at.tables())
    assert found <= {0, whole}
    async with opened(at.url()):
        assert at.tables() == whole


async def test_a_role_whose_settings_lose_or_mix_up_commits_is_refused_with_the_statement_that_corrects_it(
    at: Place,
) -> None:
    for name, setting, kind, said in [
        ("forgetful", "synchronous_commit = off", StoreNotDurableError, "SET synchronous_commit = on"),
        ("snapshot", "default_transaction_isolation = 'repeatable read'", SettingsError, "= 'read committed'"),
        ("serial", "default_transaction_isolation = serializable", SettingsError, "= 'read committed'"),
    ]:
        user = at.role(name, setting)
        error = await refused(at.url(user))
        assert type(error) is kind
        assert said in str(error)
        assert f'ALTER ROLE "{user}"' in str(error)
    assert at.tables() == 0


async def test_who_accepts_that_a_crash_loses_commits_says_so(at: Place) -> None:
    user = at.owner("forgetful", "synchronous_commit = off")
    url = at.url(user)
    for asked, options in ((f"{url}&durability=best-effort", {}), (url, {"durability": "best-effort"})):
        async with opened(asked, **options) as store:
            assert store.durability.guarantee is Guarantee.NONE
            assert "SET synchronous_commit = on" in (store.durability.warning or "")


async def test_a_database_that_cannot_keep_every_text_is_refused(at: Place) -> None:
    with psycopg.connect(at.server.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS latin")
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    error = await refused(at.url().replace("/postgres?", "/latin?"))
    assert type(error) is SettingsError
    assert "ENCODING 'UTF8'" in str(error)


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"number": 120022}, SettingsError, "too old"),
        ({"is_standby": True}, StoreUnavailableError, "is a standby"),
    ],
)
def test_another_server_is_refused(changed: dict[str, Any], kind: type[VoiceflowError], said: str) -> None:
    with pytest.raises(kind, match=said):
        durability_from(FACTS._replace(**changed), parse_url("postgresql://h/c"))


FACTS = Facts(
    number=150008, is_standby=False, encoding="UTF8", isolation="read committed", synchronous_commit="on", fsync=True,
    full_page_writes=True, role="me", database="c", has_schema=True, is_made=True, tables=9,
)  # fmt: skip


def test_the_durability_of_a_server_is_told_in_words() -> None:
    for changed, guarantee, promise, warning in [
        ({}, Guarantee.DISK, "on the server's disk", None),
        ({"fsync": False}, Guarantee.SYSTEM, "fsync off", "turn on fsync"),
        ({"full_page_writes": False}, Guarantee.SYSTEM, "full_page_writes off", "turn on full_page_writes"),
    ]:
        found = durability_from(FACTS._replace(**changed), parse_url("postgresql://h/c"))  # type: ignore[arg-type]
        assert found.guarantee is guarantee
        assert promise in found.promise
        assert (found.warning is None) is (warning is None)
        assert (warning or "") in (found.warning or "")


async def test_a_schema_of_something_else_is_left_alone(at: Place) -> None:
    at.ask(f"CREATE SCHEMA {at.schema}")
    at.ask(f"CREATE TABLE {at.schema}.orders ()")
    error = await refused(at.url())
    assert type(error) is StoreCorruptError
    assert "belongs to something else" in str(error)
    assert at.tables() == 1


async def test_the_checks_hold_for_each_new_connection(at: Place) -> None:
    user = at.owner("runtime")
    async with opened(at.url(user)) as store:

        async def fails(kind: type[VoiceflowError]) -> None:
            at.ask(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{user}'")
            with pytest.raises(kind):
                await confirm(store)

        at.ask(f"ALTER ROLE {user} SET synchronous_commit = off")
        await fails(StoreNotDurableError)
        at.ask(f"ALTER ROLE {user} RESET synchronous_commit")

        async def is_back() -> bool:
            with suppress(StoreNotDurableError):  # of a connection that was begun before
                return await store.database.rows("SELECT 1") == [(1,)]
            return False

        await until(is_back)
        at.ask(f"DROP SCHEMA {at.schema} CASCADE")
        await fails(StoreUnavailableError)
        assert at.tables() == 0


async def on_each_connection(store: PostgresStore, statement: str) -> None:
    """The pool gives the connection that has waited longest."""
    for _ in range(MOST_CONNECTIONS):
        await store.database.rows(statement)


async def test_a_transaction_that_would_check_what_is_out_of_date_writes_nothing(at: Place) -> None:
    """The setting may change, and a pooler may open connections, after the check at the opening."""
    async with opened(at.url()) as store:
        await on_each_connection(store, "SET default_transaction_isolation = 'repeatable read'")
        bulk, now = BulkWrite(writes=(Write(changes=(Insert(sample_job(1)),)),)), store.clock.now()
        with pytest.raises(StoreError, match="to 'read committed'"):
            await store.write(bulk, now=now)
        await store.database._pool.drain()
        assert not await store.jobs(ById((sample_job(1).id,)), now=now)
        await store.write(bulk, now=now)


async def test_a_commit_is_on_the_disk_although_somebody_has_turned_that_off_since_the_opening(at: Place) -> None:
    async with opened(at.url()) as store:
        at.ask(f"CREATE TABLE {at.schema}.waited (commits text)")
        at.ask(
            f"CREATE FUNCTION {at.schema}.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"INSERT INTO {at.schema}.waited VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$"
        )
        at.ask(
            f"CREATE TRIGGER note AFTER INSERT ON {at.schema}.bodies FOR EACH ROW EXECUTE FUNCTION {at.schema}.note()"
        )
        await on_each_connection(store, "SET synchronous_commit = off")
        for number, durable in ((1, True), (2, False)):
            write = Write(changes=(Insert(sample_job(number)),))
            await store.write(BulkWrite(writes=(write,), durable=durable), now=store.clock.now())
        assert at.ask(f"SELECT commits FROM {at.schema}.waited") == [("on",), ("off",)]


async def test_nothing_of_the_same_name_in_another_schema_is_taken_for_the_stores(at: Place) -> None:
    """A role may have a search_path with other people's tables, functions and operators."""
    ask = at.ask
    ask("DROP SCHEMA IF EXISTS other CASCADE")
    ask("CREATE SCHEMA other")
    try:
        for name in ("jobs", "bodies", "numbers", "records", "events", "additions", "totals", "paces", "changes"):
            ask(f"CREATE TABLE other.{name} ()")
        for name, kinds in [
            ("write", "jsonb"), ("lock_of", "text, text"), ("hashtext", "text"), ("location", ""), ("server", ""),
            ("starts_with", "text, text"), ("concatenate", "text, integer"), ("concatenate", "text, numeric"),
            ("concatenate", "text, bigint"), ("concatenate", "text, oid"), ("concatenate", "bigint, text"),
            ("concatenate", "text, name"),
        ]:  # fmt: skip
            ask(f"CREATE FUNCTION other.{name}({kinds}) RETURNS text LANGUAGE sql AS $$ SELECT (1 / 0)::text $$")
        for kind in ("integer", "numeric", "bigint", "oid", "name"):
            ask(f"CREATE OPERATOR other.|| (LEFTARG = text, RIGHTARG = {kind}, FUNCTION = other.concatenate)")
        user = at.role("neighbour", "search_path = other, public")
        ask(f"GRANT USAGE ON SCHEMA other TO {user}")
        ask(f"CREATE SCHEMA {at.schema} AUTHORIZATION {user}")
        async with opened(at.url(user)) as store:
            job, now = sample_job(1), store.clock.now()
            put = Put("place", "a", "b", None)
            await store.write(BulkWrite(writes=(Write(changes=(Insert(job),), puts=(put,), wakes=job.queue),)), now=now)
            leased = await store.lease(job.queue, worker_id="w", limit=1, until=now, now=now)
            assert [each.id for each in leased] == [job.id]
            assert [each.id for each in await store.jobs(ById((job.id,)), now=now)] == [job.id]
            assert (await totals_of(store, job.queue)).live
            await store.write(BulkWrite(writes=(Write(slot=Slot(job.queue, now, now)),)), now=now)
            await store.events(job.queue)
            await store.wait(job.queue, seen=0, until=now)
            assert await store.database.rows("SELECT voiceflow.location() <> ''") == [(True,)]
            await store.prune(job.queue, now=now, events_before=now, limit=9)
    finally:
        ask("DROP SCHEMA other CASCADE")


async def test_after_a_write_that_was_read_only_the_next_one_has_a_new_connection(at: Place) -> None:
    """The other one may lead to a server that accepts it."""
    user = at.owner("paused")
    url = at.url(user)
    async with opened(url):
        at.ask(f"ALTER ROLE {user} SET default_transaction_read_only = on")
    async with opened(url) as store:
        bulk, now = BulkWrite(writes=(Write(changes=(Insert(sample_job(1)),)),)), store.clock.now()
        with pytest.raises(StoreReadOnlyError, match="turn off read-only"):
            await store.write(bulk, now=now)
        at.ask(f"ALTER ROLE {user} RESET default_transaction_read_only")
        await store.write(bulk, now=now)


async def test_three_roles_an_owner_one_that_works_and_one_that_reads(at: Place) -> None:
    ask = at.ask
    works, reads = at.role("works"), at.role("reads")
    error = await refused(at.url(works))
    assert isinstance(error, StoreUnavailableError)
    assert error.passes is False
    assert "doctor --make" in str(error)
    ask(f"DROP SCHEMA IF EXISTS {at.schema}")
    async with opened(at.url(at.owner("owner"))):
        pass
    for user, rights in ((works, WORKS), (reads, READS)):
        assert "(GRANT)" in str(await refused(at.url(user)))
        for statement in granted(rights, at.schema, user):
            ask(statement)
    writing = "INSERT INTO voiceflow.changes (queue) VALUES ('q')"
    async with opened(at.url(works)) as store:
        await store.database.rows(writing)
        with pytest.raises(StoreReadOnlyError, match="GRANT"):
            await store.database.rows("CREATE TABLE voiceflow.more ()")
    async with opened(at.url(reads)) as store:
        assert await store.database.rows("SELECT queue FROM voiceflow.changes") == [("q",)]
        with pytest.raises(StoreReadOnlyError, match="GRANT"):
            await store.database.rows(writing)


async def test_settings_of_a_role_change_nothing_that_is_read(at: Place) -> None:
    settings = ("DateStyle = 'german, dmy'", "TimeZone = 'Asia/Kolkata'", "extra_float_digits = -10",
                "search_path = nowhere", "standard_conforming_strings = off", "client_encoding = 'LATIN1'",
                "array_nulls = off")  # fmt: skip
    user = at.owner("odd", *settings)
    clock = ManualClock()
    async with open_postgres(at.url(user), clock=clock) as store:
        now = clock.now()
        job = sample_job(1)
        put = Put("lock", "name", "ü\\'", now + timedelta(microseconds=1_000_003))
        limits = limits_put(job.queue, Limits(rate=3.0))
        await store.write(BulkWrite(writes=(Write(changes=(Insert(job),), puts=(put, limits)),)), now=now)
        assert list(await store.jobs(ById((job.id,)), now=now)) == [job]
        (record,) = (await store.records({"lock": ["name"]}, now=now))["lock"]
        assert (record.value, record.ends_at) == (put.value, put.ends_at)
        until_then = now + timedelta(microseconds=7)
        (leased,) = await store.lease(job.queue, worker_id="w", limit=1, until=until_then, now=now)
        assert leased.due_at == until_then
        slot = Slot(job.queue, now, now + timedelta(minutes=1))
        (answer,) = await store.write(BulkWrite(writes=(Write(slot=slot),)), now=now)
        assert answer.slot == SendSlot(now, now + timedelta(microseconds=333_333))


@pytest.mark.slow
async def test_a_standby_is_refused_and_of_several_hosts_the_primary_is_used() -> None:
    primary = PostgresServer()
    try:
        primary.start()
        async with opened(primary.url()):
            pass
        standby = primary.standby()
        try:
            error = await refused(standby.url())
            assert isinstance(error, StoreUnavailableError)
            assert "is a standby" in str(error)
            both = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
            async with opened(primary.url().replace(f"127.0.0.1:{primary.port}", both)) as store:
                assert await store.database.rows("SELECT pg_is_in_recovery()") == [(False,)]
            primary.stop()
            error = await refused(primary.url().replace(f"127.0.0.1:{primary.port}", both))
            assert isinstance(error, StoreUnavailableError)
            assert "read-only" in str(error)
        finally:
            standby.close()
    finally:
        primary.close()


async def test_the_time_is_the_servers(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.backends.running.RESYNC_EVERY", 0.02)
    url = at.url()
    async with opened(url) as store:
        assert abs(store.clock.now() - datetime.now(UTC)) < timedelta(seconds=1)
        told = 2_000_000_000.0
        monkeypatch.setattr(opening, "_TIME", f"SELECT {told}::float8")
        await until(lambda: store.clock.now().year == 2033)
