"""Rows that change often: where they are, and what their changes leave behind."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.samples import NOW
from tests.contract.writing import results_of
from tests.support.postgres import PostgresServer
from voiceflow_worker import open_store
from voiceflow_worker.core.base.background import LEASES
from voiceflow_worker.core.heartbeats import RECEIVERS, WORKERS
from voiceflow_worker.core.outcomes.outbox import POSITIONS
from voiceflow_worker.core.ports.controls import LIMITS
from voiceflow_worker.core.ports.store import Put, Write
from voiceflow_worker.core.writes import NUMBER, WRITERS

pytestmark = pytest.mark.anyio


async def test_records_that_change_often_are_in_a_small_table_without_an_index_of_what_changes(
    postgres_server: PostgresServer, schema: str
) -> None:
    async with open_store(postgres_server.url(schema=schema)) as store:
        namespaces = (LIMITS, POSITIONS, WRITERS, RECEIVERS, LEASES, WORKERS, NUMBER)
        for place in range(3):
            ends_at = NOW + timedelta(seconds=place)
            await results_of(store, Write(puts=tuple(Put(each, "g", f"text {place}", ends_at) for each in namespaces)))
    table = f"{schema}.records_that_change"
    assert postgres_server.ask(f"SELECT count(*) FROM {table}") == [(len(namespaces) - 1,)]
    assert postgres_server.ask(f"SELECT namespace FROM {schema}.records_that_stay") == [(NUMBER,)]
    indexes = postgres_server.ask(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass", table
    )
    assert [index.partition("(")[2] for (index,) in indexes] == ["namespace, group_name, member)"]


async def test_what_is_over_is_deleted_in_the_partition_where_it_is(
    postgres_server: PostgresServer, schema: str
) -> None:
    """Rows at the same place of two partitions: only the one that is over goes."""
    async with open_store(postgres_server.url(schema=schema)) as store:
        over, lasts = NOW - timedelta(seconds=1), NOW + timedelta(days=1)
        await results_of(store, Write(puts=(Put(WORKERS, "over", "", over), Put(NUMBER, "lasts", "", lasts))))
        await results_of(store, Write(puts=(Put(WORKERS, "lasts", "", lasts), Put(NUMBER, "over", "", over))))
        assert await store.prune("default", now=NOW, events_before=NOW, limit=10) == 2
    left = postgres_server.ask(f"SELECT namespace, group_name FROM {schema}.records ORDER BY 1")
    assert left == [(NUMBER, "lasts"), (WORKERS, "lasts")]
