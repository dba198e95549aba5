"""What the doctor and the metrics say of a PostgreSQL: open transactions, connections, failover."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import anyio
import psycopg
import pytest

from tests.support.postgres import PostgresServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.health import Health
from voiceflow_worker.backends.postgres import health
from voiceflow_worker.backends.registry import health_of
from voiceflow_worker.finding import Diagnosis, Level

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def looked_at(url: str) -> AsyncIterator[Health]:
    async with open_store(url, advises=False) as store:
        yield health_of(url, store)


async def found(of: Health, check: str) -> Diagnosis:
    diagnosis = await of.checks()[check]()
    assert diagnosis is not None
    return diagnosis


async def found_at_last(of: Health, check: str, level: Level) -> Diagnosis:
    """The diagnosis, as soon as it is of this level: what a server tells of itself is a little late."""
    with anyio.fail_after(30):
        while (line := await found(of, check)).level is not level:
            pass
        return line


async def figures(of: Health) -> dict[str, float]:
    return {figure.name: figure.value for figure in await of.figures()}


@contextmanager
def connected(url: str, *, autocommit: bool = True, **parameters: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=autocommit, **parameters) as connection:  # type: ignore[arg-type]
        yield connection


async def test_all_is_well_on_a_new_store(postgres_server: PostgresServer, schema: str) -> None:
    async with looked_at(postgres_server.url(schema=schema)) as of:
        levels = {name: (await found(of, name)).level for name in of.checks()}
        assert levels == dict.fromkeys(("durability", "failover", "transactions", "server clock"), Level.OK)
        told = await figures(of)
        assert sorted(told) == ["connections_left", "oldest_transaction_seconds"]
        assert told["connections_left"] > 8


async def test_the_oldest_open_transaction_is_named_with_how_to_end_it(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "OLD", timedelta(0))
    async with looked_at(own_server.url()) as of:
        with connected(own_server.url(), autocommit=False, application_name="month's end") as other:
            other.execute("SELECT 1")
            line = await found(of, "transactions")
            assert line.level is Level.WARNING
            assert f"process {other.info.backend_pid}, application month's end, idle in transaction" in line.message
            assert f"pg_terminate_backend({other.info.backend_pid})" in (line.remedy or "")
            assert (await figures(of))["oldest_transaction_seconds"] > 0
            other.rollback()
            assert (await found(of, "transactions")).level is Level.OK


async def test_a_role_that_may_not_see_the_transactions_of_others_is_told_so(
    postgres_server: PostgresServer, schema: str
) -> None:
    owner = f"{schema}_owner"
    postgres_server.ask(f"CREATE ROLE {owner} LOGIN CONNECTION LIMIT 3")
    try:
        postgres_server.ask(f"CREATE SCHEMA {schema} AUTHORIZATION {owner}")
        async with looked_at(postgres_server.url(user=owner, schema=schema)) as of:
            unseen = f'cannot be seen (GRANT pg_read_all_stats TO "{owner}")'
            assert unseen in (await found(of, "transactions")).message
            assert (await figures(of))["connections_left"] == 2
            postgres_server.ask(f"GRANT pg_read_all_stats TO {owner}")
            assert unseen not in (await found(of, "transactions")).message
            with connected(postgres_server.url(user=owner)), connected(postgres_server.url(user=owner)):
                assert (await figures(of))["connections_left"] == 0
    finally:
        postgres_server.ask(f"DROP OWNED BY {owner} CASCADE")
        postgres_server.ask(f"DROP ROLE {owner}")


@pytest.mark.slow
async def test_what_workers_do_after_a_failover_is_told(schema: str) -> None:
    primary = PostgresServer().start()
    standby = primary.standby()
    try:
        async with looked_at(primary.url(schema=schema)) as of:
            line = await found(of, "failover")
            assert (line.level, line.message) == (Level.OK, "each queue is held after it, until a person resumes it")
        primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.ask("SELECT pg_reload_conf()")
        async with looked_at(primary.url(schema=schema, failover="trusted")) as of:
            line = await found(of, "failover")
            assert line.level is Level.OK
            assert "failover=trusted" in line.message
            standby.kill()
            assert "none is connected" in (await found_at_last(of, "failover", Level.FAILURE)).message
    finally:
        standby.close()
        primary.close()
