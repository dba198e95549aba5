"""Nothing that workers ask for again and again reads more than it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import psycopg
import pytest

from voiceflow_worker.backends.contract import NOW, QUEUE, sample_jobs
from voiceflow_worker.backends.contract.find import FOUND
from voiceflow_worker.backends.contract.writing import stored
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
