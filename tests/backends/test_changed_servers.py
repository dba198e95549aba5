"""A server whose settings change under a worker, and an address that leads elsewhere: nothing is dropped."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from anyio import to_thread

from tests.support.flows import number
from tests.support.postgres import DATABASE, Pooler, PostgresServer
from tests.support.redis_server import standalone
from tests.support.voices import ScriptedVoice, created
from tests.support.waiting import once_available, until
from tests.support.workers import enqueued, in_state, states, worker_for, worker_with_files
from voiceflow_worker import CallQueue, JobState, open_store
from voiceflow_worker.core.base.background import Task
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.reports.verdict import Verdict

pytestmark = pytest.mark.anyio


class Server(NamedTuple):
    """A server for one test, how its setting is changed, and how its clients lose their connections."""

    url: str
    set_to: Callable[[str], object]
    cut: Callable[[], object]


@contextmanager
def redis_with(folder: Path, setting: str) -> Generator[Server]:
    server = standalone(folder / "redis").start()

    def set_to(value: str) -> None:
        server.ask("CONFIG", "SET", setting, value)

    try:
        yield Server(server.url, set_to, lambda: server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
    finally:
        server.kill()


@contextmanager
def postgres_with(_: Path, setting: str) -> Generator[Server]:
    server = PostgresServer()
    others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND client_port IS NOT NULL"

    def set_to(value: str) -> None:
        server.ask(f"ALTER ROLE CURRENT_USER SET {setting} = {value}")

    try:
        url = server.start().url()
        yield Server(url, set_to, lambda: server.ask(f"SELECT pg_terminate_backend(pid) {others}"))
    finally:
        server.close()


@pytest.mark.parametrize(
    ("kind", "setting", "bad", "good"),
    [
        (redis_with, "appendonly", "no", "yes"),
        pytest.param(redis_with, "maxmemory-policy", "allkeys-lru", "noeviction", marks=pytest.mark.slow),
        pytest.param(postgres_with, "synchronous_commit", "off", "on", marks=pytest.mark.slow),
        pytest.param(
            postgres_with, "default_transaction_isolation", "'serializable'", "'read committed'", marks=pytest.mark.slow
        ),
    ],
)
async def test_a_setting_that_changes_under_a_worker_drops_no_verdict(
    tmp_path: Path, kind: Callable[..., AbstractContextManager[Server]], setting: str, bad: str, good: str
) -> None:
    with kind(tmp_path, setting) as server:

        def changed(placement: Placement) -> Verdict:
            server.set_to(bad)
            server.cut()
            return created(placement.client_request_id)

        voice = ScriptedVoice(answer=changed)
        async with open_store(server.url, advises=False) as store, anyio.create_task_group() as group:
            await enqueued(store, 1)
            worker = worker_for(store, voice)
            group.start_soon(worker.run)
            await until(lambda: worker.counts.verdicts_waiting == 1)
            await until(lambda: worker.counts.task_failures[Task.VERDICT] >= 3)
            await to_thread.run_sync(server.set_to, good)
            await in_state(store, JobState.ACCEPTED, 1)
            worker.stop()
        assert len(voice.placed) == 1


class Address(NamedTuple):
    """The URL of a store that may lead to another one, and the URL of that while it does."""

    url: str
    other: str
    lead_away: Callable[[], None]
    lead_back: Callable[[], None]
    says: str


@asynccontextmanager
async def pooler(_: Path, *, others: int) -> AsyncGenerator[Address]:
    server = PostgresServer()
    before = Pooler(server)
    staging = server.url().replace(f"/{DATABASE}", "/staging")
    try:
        server.start().ask("CREATE DATABASE staging")
        before.start()
        await fill(staging, others)
        yield Address(
            before.url(), staging, lambda: before.lead_to("staging"), lambda: before.lead_to(DATABASE),
            "leads to another store now",
        )  # fmt: skip
    finally:
        before.close()
        server.close()


@asynccontextmanager
async def redis(folder: Path, *, others: int) -> AsyncGenerator[Address]:
    server, other = standalone(folder / "a"), standalone(folder / "b")

    def lead(*, away: bool) -> None:
        leaves, comes = (server, other) if away else (other, server)
        leaves.kill()
        comes.start()

    try:
        other.start()
        await fill(other.url, others)
        other.kill()
        other.port = server.start().port
        yield Address(
            server.url, server.url, lambda: lead(away=True), lambda: lead(away=False),
            "the one that this process has opened",
        )  # fmt: skip
    finally:
        server.kill()
        other.kill()


async def fill(url: str, others: int) -> None:
    if others:
        async with open_store(url, advises=False) as other:
            await enqueued(other, others)


@pytest.mark.alone
@pytest.mark.parametrize(
    ("server", "others", "keeps_journal"),
    [(pooler, 3, True), (pooler, 3, False), (redis, 3, True), (redis, 0, True)],
    ids=["a pooler", "a pooler, without a journal", "redis", "an empty redis"],
)
async def test_while_an_address_leads_elsewhere_orders_are_refused_and_nobody_of_the_other_store_rings(
    tmp_path: Path, server: Callable[..., AbstractAsyncContextManager[Address]], others: int, *, keeps_journal: bool
) -> None:
    voice = ScriptedVoice()
    async with (
        server(tmp_path, others=others) as at,
        open_store(at.url, advises=False) as store,
        anyio.create_task_group() as group,
    ):
        orders = (
            lambda: SuppressionList(store).add(number(0), reason="asked for it"),
            CallQueue(store).hold,
        )
        worker = worker_with_files(store, voice, tmp_path / "journals") if keeps_journal else worker_for(store, voice)
        group.start_soon(worker.run)
        await enqueued(store, 1, first=10)
        await until(lambda: len(voice.placed) == 1)
        await to_thread.run_sync(at.lead_away)
        failures = worker.counts.task_failures.total()
        for order in orders:

            async def is_told(order: Callable[[], object] = order) -> bool:
                with pytest.raises(StoreUnavailableError) as caught:
                    await order()  # type: ignore[misc]
                return at.says in str(caught.value)

            await until(is_told)
        await until(lambda: worker.counts.task_failures.total() >= failures + 2)  # it has tried to lease
        assert len(voice.placed) == 1
        async with open_store(at.other, advises=False) as other:
            found = await states(CallQueue(other))
            assert (sum(found.values()), found.keys() <= {"queued", "leased"}) == (others, True), found
            assert not await SuppressionList(other).scan()
            assert await gates_of(other, "default") == []
        await to_thread.run_sync(at.lead_back)
        await once_available(orders[0])
        await once_available(lambda: enqueued(store, 1, first=11))
        await until(lambda: len(voice.placed) == 2)
        worker.stop()
        assert await gates_of(store, "default") == []
