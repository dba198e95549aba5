"""Nothing that workers ask for again and again reads more than it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import psycopg
import pytest

from tests.contract.find import FOUND
from tests.contract.suite import NOW, QUEUE, sample_jobs
from tests.contract.writing import stored
from voiceflow_worker.backends.postgres import PostgresStore, open_postgres
from voiceflow_worker.backends.postgres import store as module
from voiceflow_worker.backends.postgres.reading import search

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(fresh_url: Callable[[str], str]) -> AsyncIterator[PostgresStore]:
    async with open_postgres(fresh_url("postgres")) as store:
        yield store


async def test_no_search_reads_a_whole_table(store: PostgresStore) -> None:
    """With such plans switched off, PostgreSQL reads a whole table only where no index fits."""
    async with await psycopg.AsyncConnection.connect(store.database.url.conninfo) as connection:
        await connection.execute("SET enable_seqscan = off")
        for name, (read, _) in FOUND.items():
            statement, values = search(read)
            explained = f"EXPLAIN {store.database.url.named(statement)}".encode()
            plan = "\n".join(row[0] for row in await (await connection.execute(explained, values)).fetchall())
            assert "Seq Scan" not in plan, f"{name}\n{plan}"


async def test_while_a_transaction_stays_open_leases_do_not_pass_over_all_that_were_leased_since(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MANY_GONE", 50)
    monkeypatch.setattr(module, "_RESTS", 600.0)
    async with await psycopg.AsyncConnection.connect(store.database.url.conninfo, autocommit=True) as connection:
        await connection.execute(store.database.url.named("VACUUM voiceflow.jobs").encode())  # rows of other tests
    await stored(store, *sample_jobs(200))
    passed: list[int] = []
    rows = store.database.rows

    async def watched(statement: str, *values: object) -> list[tuple[object, ...]]:
        found = await rows(statement, *values)
        if "voiceflow.lease" in statement:
            passed.append(int(str(found[0][-1])))
        return found

    monkeypatch.setattr(store.database, "rows", watched)
    leased: list[str] = []
    async with await psycopg.AsyncConnection.connect(store.database.url.conninfo) as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await connection.execute("SELECT count(*) FROM pg_class")
        while some := await store.lease(QUEUE, worker_id="w", limit=10, until=NOW + timedelta(hours=1), now=NOW):
            leased += [job.id for job in some]
    assert leased == [job.id for job in sample_jobs(200)]
    assert max(passed) < 100, passed


@pytest.mark.slow
async def test_a_lease_finds_the_calls_behind_many_closed_batches(store: PostgresStore) -> None:
    """The time does not grow with the square of their number: 20,000 would take longer than a statement may."""
    closed, behind = 20_000, sample_jobs(1)[0]
    await stored(store, behind)
    rows = store.database.rows
    await rows(
        f"""
        INSERT INTO voiceflow.jobs
            (id, queue, state, due_at, revision, urgency, batch_id, destination, body_digest, record)
        SELECT queue || '.0' || i, queue, state, due_at - interval '1 day', 'r', urgency, 'b' || i, '+65', 'd', record
        FROM voiceflow.jobs, generate_series(1, {closed}) AS i
        """
    )
    await rows("INSERT INTO voiceflow.bodies SELECT id, '{}' FROM voiceflow.jobs ON CONFLICT DO NOTHING")
    await rows(
        f"""
        INSERT INTO voiceflow.records
        SELECT 'gate', '{QUEUE}', '=b' || i, 'held 1 t because', NULL FROM generate_series(1, {closed}) AS i
        """
    )
    for found in ([behind.id], []):
        leased = await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + timedelta(hours=1), now=NOW)
        assert [job.id for job in leased] == found
