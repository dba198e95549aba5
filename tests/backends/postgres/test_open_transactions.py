"""Transactions of callers at their worst: left open, rolled back, killed, and many at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import anyio
import psycopg
import pytest
from anyio import to_thread

from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.postgres import PostgresServer
from tests.support.voices import ScriptedVoice
from tests.support.workers import worker_for
from voiceflow_worker import CallQueue, SuppressionList, enqueue_in, open_store
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.base.reading import totals_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

T = TypeVar("T")

CONNECTIONS, EACH = 20, 50
OPEN_FOR = 5.0
SHOPS, ORDERS = 8, 1250


async def test_who_leaves_a_thousand_enqueues_open_holds_up_nobody(postgres_server: PostgresServer) -> None:
    schema = f"voiceflow_{uuid4().hex[:8]}"
    async with open_store(postgres_server.url(schema=schema)) as store:
        engine = Engine(store, ScriptedVoice())
        usual = [await day(engine, place) for place in range(5)]
        left_open = [psycopg.connect(postgres_server.url()) for _ in range(CONNECTIONS)]
        try:
            for of, connection in enumerate(left_open):
                for place in range(EACH):
                    enqueue_in(
                        connection, flow(number(place)), schema=schema, unique_key=f"{of}-{place}", batch_id="everybody"
                    )
            began, meanwhile = time.monotonic(), list[dict[str, float]]()
            while time.monotonic() < began + OPEN_FOR:
                meanwhile.append(await day(engine, 100 + len(meanwhile)))
            for act in usual[0]:
                slowest = max(times[act] for times in usual)
                assert sorted(times[act] for times in meanwhile)[len(meanwhile) // 2] < 3 * slowest + 0.05, act
                assert max(times[act] for times in meanwhile) < 10 * slowest + 0.5, act
            for of, connection in enumerate(left_open):
                await to_thread.run_sync(connection.commit if of % 2 else connection.rollback)
        finally:
            for connection in left_open:
                connection.close()
        done = len(usual) + len(meanwhile)
        totals = await totals_of(store, "default", "everybody")
        assert sum(totals.states.values()) == done + CONNECTIONS * EACH // 2


async def day(engine: Engine, place: int) -> dict[str, float]:
    """How long each thing takes that workers, receivers and people do."""
    times: dict[str, float] = {}

    async def timed(name: str, act: Callable[[], Awaitable[T]]) -> T:
        began = time.perf_counter()
        with anyio.fail_after(10):
            result = await act()
        times[name] = time.perf_counter() - began
        return result

    queue, store, mine = engine.queue, engine.store, number(10_000 + place)
    job = await timed("enqueue", lambda: engine.enqueue(mine, unique_key=f"day-{place}", batch_id="everybody"))
    (sent,) = await timed("send", engine.send)
    assert sent.id == job.id
    await timed("summary", lambda: engine.summarise(sent))
    await timed("hold", queue.hold)
    await timed("resume", queue.resume)
    await timed("hold of the batch", lambda: queue.hold(batch_id="everybody"))
    await timed("resume of the batch", lambda: queue.resume(batch_id="everybody"))
    # The number is one of those that the open transactions are going to call.
    await timed("opt-out", lambda: SuppressionList(store).add(number(place % EACH)))
    await timed("no opt-out", lambda: SuppressionList(store).remove(number(place % EACH)))
    await timed("totals", lambda: totals_of(store, "default", "everybody"))
    await timed("status", queue.status)
    await timed("events", lambda: store.events("default", limit=100))
    await timed("names", lambda: BatchNames(store, "default").page())
    await timed("sweep", engine.sweeper.sweep)
    now = datetime.now(UTC)
    await timed("prune", lambda: store.prune("default", now=now, events_before=now - timedelta(days=1), limit=1000))
    return times


@pytest.mark.crash
@pytest.mark.timeout(300)
async def test_exactly_the_calls_of_committed_transactions_ring(postgres_server: PostgresServer) -> None:
    schema = f"voiceflow_{uuid4().hex[:8]}"
    async with open_store(postgres_server.url(schema=schema)) as store:
        postgres_server.ask(f"CREATE TABLE {schema}.orders (name text)")
        voice = ScriptedVoice()
        worker = worker_for(store, voice, concurrency=50)
        async with anyio.create_task_group() as group:  # it sends while orders come in
            group.start_soon(worker.run)
            await to_thread.run_sync(shops, postgres_server.url(), schema)
            worker.stop()
        await worker_for(store, voice, concurrency=50).drain()
        ordered = {str(name) for (name,) in postgres_server.ask(f"SELECT DISTINCT name FROM {schema}.orders")}
        calls = [str(key) for (key,) in postgres_server.ask(f"SELECT unique_key FROM {schema}.jobs")]
        assert len(calls) == len(set(calls))
        assert set(calls) == ordered
        rang = {job_id.rpartition(".")[0] for job_id in voice.client_request_ids}
        assert len(voice.placed) == len(rang) == len(calls)
        await store.prune("default", now=datetime.now(UTC), events_before=datetime.now(UTC), limit=10_000)
        assert {each.name for each in await BatchNames(store, "default").page()} == {"shop-0", "shop-1", "shop-2"}
        assert sum((await CallQueue(store).status()).states.values()) == len(calls)


def shops(url: str, schema: str) -> None:
    """Open shops, and kill every other one at a moment of its own, in the middle of its orders."""
    command = [sys.executable, "-m", "tests.backends.postgres.ordering", url, schema]
    root = Path(__file__).parents[3]
    open_ones = [
        subprocess.Popen([*command, str(name), str(ORDERS)], cwd=root, stdout=subprocess.PIPE) for name in range(SHOPS)
    ]
    try:
        for place, shop in enumerate(open_ones[::2]):
            time.sleep(2 + place)
            shop.kill()
        for place, shop in enumerate(open_ones):
            said, _ = shop.communicate(timeout=250)
            assert (said == b"closed\n") is bool(place % 2)
    finally:
        for shop in open_ones:
            shop.kill()
            shop.wait()
