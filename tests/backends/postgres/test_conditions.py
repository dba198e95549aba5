"""Of two writes that contradict each other, the second waits for the first; open transactions hold up nobody."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import psycopg
import pytest
from anyio import to_thread

from tests.contract.suite import NOW, sample_job
from tests.contract.writing import DONE, EXISTS, NOT_FREE, gated, held, new, put, results_of, stored
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.postgres import PostgresServer
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import at_work, worker_for
from voiceflow_worker import CallQueue, SuppressionList, enqueue_in, open_store
from voiceflow_worker.backends.postgres import PostgresStore, open_postgres
from voiceflow_worker.backends.postgres.codec import plain_bulk
from voiceflow_worker.core import writes
from voiceflow_worker.core.base.identity import BatchNames
from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.ports.controls import gates_open
from voiceflow_worker.core.ports.store import BulkWrite, Mode, Put, Result, Write
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy, PersonLimit

pytestmark = pytest.mark.anyio

POLICY = CallPolicy(max_per_person=PersonLimit(1, timedelta(days=1)))
SOON = NOW + timedelta(minutes=1)


class People:
    """Two people, and three calls that workers are about to send: two to the first of them, and one to both."""

    def __init__(self, turn: int = 0) -> None:
        self.queue = f"q{turn}"
        self.number, other = f"+65{91000000 + turn}", f"+65{92000000 + turn}"
        numbers = ((self.number,), (self.number,), (other, self.number))
        self.jobs: list[Job] = [
            sample_job(
                at, queue=self.queue, destination=first, further_numbers=tuple(further), state=JobState.LEASED,
                worker_id="w", due_at=SOON,
            )
            for at, (first, *further) in enumerate(numbers)
        ]  # fmt: skip

    def journal(self, at: int = 0) -> Write:
        return writes.journal_entry(self.jobs[at], at=NOW, lease_until=SOON, policy=POLICY, store_id="store")[1]

    def bridge(self) -> Write:
        return writes.bridge_of_session("s", [self.number], at=NOW, policy=POLICY, store_id="store")

    def hold(self) -> Write:
        return gated(GateState.HELD, queue=self.queue)

    def enqueue(self, at: int = 4) -> Write:
        return new(sample_job(at, queue=self.queue, unique_key="k"))

    def opt_out(self) -> Write:
        return Write(puts=(Put(SUPPRESSED, self.number, "{}", None, Mode.LONGER),))


Made = Callable[[People], Write]
PAIRS: dict[str, tuple[Made, Made, Result]] = {
    "a bridge and a journal entry": (People.bridge, People.journal, NOT_FREE),
    "a journal entry and a bridge": (People.journal, People.bridge, NOT_FREE),
    "two journal entries for one number": (People.journal, lambda people: people.journal(1), NOT_FREE),
    "two journal entries for the last place of a person": (People.journal, lambda people: people.journal(2), NOT_FREE),
    "a hold and a journal entry": (People.hold, People.journal, NOT_FREE),
    "a journal entry and a hold, which returns after it": (People.journal, People.hold, DONE),
    "an opt-out and a journal entry": (People.opt_out, People.journal, NOT_FREE),
    "a journal entry and an opt-out, which returns after it": (People.journal, People.opt_out, DONE),
    "two calls under one key": (People.enqueue, lambda people: people.enqueue(5), EXISTS),
}


@pytest.fixture
async def stores(fresh_url: Callable[[str], str]) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    url = fresh_url("postgres")
    async with open_postgres(url) as one, open_postgres(url) as other:
        yield one, other


@asynccontextmanager
async def uncommitted(store: PostgresStore, *writes: Write) -> AsyncIterator[None]:
    """A bulk write that is written, and committed only at the end of the block."""
    bulk = BulkWrite(writes=writes)
    statement = store.database.url.named("SELECT voiceflow.write(%s::jsonb)").encode()
    async with await psycopg.AsyncConnection.connect(store.database.url.conninfo) as connection:
        (answers,) = await (await connection.execute(statement, (plain_bulk(bulk, writes, now=NOW),))).fetchone() or ()
        assert answers == ["done"] * len(writes)
        yield
        await connection.commit()


async def waits(store: PostgresStore) -> bool:
    """Whether a statement waits for a lock."""
    ((waiting,),) = await store.database.rows("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return bool(waiting)


@pytest.mark.parametrize("name", PAIRS)
async def test_the_second_of_two_waits_until_the_first_has_committed(
    stores: tuple[PostgresStore, PostgresStore], name: str
) -> None:
    one, other = stores
    first, second, expected = PAIRS[name]
    people, results = People(), list[Result]()
    await stored(one, *people.jobs)

    async def write_second() -> None:
        results.extend(await results_of(other, second(people)))

    async with anyio.create_task_group() as group, uncommitted(one, first(people)):
        group.start_soon(write_second)
        await until(lambda: waits(one), within=5)
        assert not results
    assert results == [expected]


async def test_who_waits_for_the_key_of_an_open_transaction_holds_up_nobody_for_long(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, other = stores
    people = People()
    callers = BulkWrite(writes=(people.enqueue(),))
    again = replace(people.enqueue(5), conditions=gates_open(people.queue))

    async def enqueue_again() -> None:
        assert await results_of(other, again) == [NOT_FREE]

    async with await psycopg.AsyncConnection.connect(one.database.url.conninfo) as connection:
        statement = one.database.url.named("SELECT voiceflow.enqueue(%s::jsonb)").encode()
        await connection.execute(statement, (plain_bulk(callers, callers.writes, now=NOW),))
        async with anyio.create_task_group() as group:
            group.start_soon(enqueue_again)
            await until(lambda: waits(one), within=5)
            with anyio.fail_after(1.5):
                assert await results_of(one, people.hold()) == [DONE]
        await connection.rollback()


async def test_of_two_at_once_of_which_each_refuses_the_other_one_is_written(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    refused: list[Made] = [People.bridge, lambda people: people.journal(1), lambda people: people.journal(2)]
    for turn, second in enumerate(refused * 7):
        people, results = People(turn), list[Result]()
        await stored(stores[0], *people.jobs)

        async def one(store: PostgresStore, write: Write, results: list[Result] = results) -> None:
            results += await results_of(store, write)

        async with anyio.create_task_group() as group:
            for store, write in zip(stores[:: 1 - 2 * (turn % 2)], (people.journal(), second(people)), strict=True):
                group.start_soon(one, store, write)
        assert sorted(results, key=str) == [DONE, NOT_FREE], turn


async def test_a_key_that_an_open_transaction_stores_is_waited_for_only_shortly(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, other = stores
    people = People()
    await stored(one, *people.jobs)
    async with uncommitted(one, people.enqueue()):
        with pytest.raises(StoreUnavailableError, match="pg_stat_activity"):
            await results_of(other, people.enqueue(5))
    assert await results_of(other, people.enqueue(5), people.journal()) == [EXISTS, DONE]


async def test_what_was_answered_before_an_error_is_told(
    stores: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = stores
    rows, written = store.database.rows, list[object]()

    async def second_fails(statement: str, *values: object, **options: Any) -> list[tuple[object, ...]]:
        if written:
            raise StoreUnavailableError("cut")
        written.extend(values)
        return await rows(statement, *values, **options)

    monkeypatch.setattr(store.database, "rows", second_fails)
    with pytest.raises(StoreUnavailableError) as caught:
        await results_of(store, *(Write(puts=(put(f"{number}"),)) for number in range(100)))
    answers = [answer and answer.result for answer in caught.value.answers]
    assert answers == [DONE] * 32 + [None] * 68
    monkeypatch.undo()
    assert len(await held(store)) == 32


CONNECTIONS, EACH, DAYS = 4, 5, 3
SHOPS, ORDERS = 8, 1250


async def test_who_leaves_many_enqueues_open_holds_up_nobody(postgres_server: PostgresServer) -> None:
    schema = f"voiceflow_{uuid4().hex[:8]}"
    async with open_store(postgres_server.url(schema=schema)) as store:
        engine = Engine(store, ScriptedVoice())
        left_open = [psycopg.connect(postgres_server.url()) for _ in range(CONNECTIONS)]
        try:
            for of, connection in enumerate(left_open):
                for place in range(EACH):
                    enqueue_in(
                        connection, flow(number(place)), schema=schema, unique_key=f"{of}-{place}", batch="everybody"
                    )
            with anyio.fail_after(30):  # what waits for a transaction would wait for ever
                for place in range(DAYS):
                    await day(engine, place)
            for of, connection in enumerate(left_open):
                await to_thread.run_sync(connection.commit if of % 2 else connection.rollback)
        finally:
            for connection in left_open:
                connection.close()
        totals = await totals_of(store, "default", "everybody")
        assert sum(totals.states.values()) == DAYS + CONNECTIONS * EACH // 2


async def day(engine: Engine, place: int) -> None:
    """What workers, receivers and people do, about a number that the open transactions are going to call too."""
    queue, store, batch = engine.queue, engine.store, "everybody"
    job = await engine.enqueue(number(10_000 + place), unique_key=f"day-{place}", batch=batch)
    (sent,) = await engine.send()
    assert sent.id == job.id
    await engine.summarise(sent)
    for batch_id in (None, batch):
        await queue.hold(batch_id=batch_id)
        await queue.resume(batch_id=batch_id)
    await SuppressionList(store).add(number(place % EACH))
    await SuppressionList(store).remove(number(place % EACH))
    await totals_of(store, "default", batch)
    await queue.status()
    await store.events("default", limit=100)
    await BatchNames(store, "default").page()
    await engine.sweeper.sweep()
    now = datetime.now(UTC)
    await store.prune("default", now=now, events_before=now - timedelta(days=1), limit=1000)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.timeout(300)
async def test_exactly_the_calls_of_committed_transactions_ring(postgres_server: PostgresServer) -> None:
    schema = f"voiceflow_{uuid4().hex[:8]}"
    async with open_store(postgres_server.url(schema=schema)) as store:
        postgres_server.ask(f"CREATE TABLE {schema}.orders (name text)")
        voice = ScriptedVoice()
        worker = worker_for(store, voice, concurrency=50)
        async with at_work(worker):
            await to_thread.run_sync(shops, postgres_server.url(), schema)
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
