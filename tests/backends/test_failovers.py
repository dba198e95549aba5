"""Failovers of real servers: each queue is held after each one, or goes on where it is trusted, and a yes is true."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from anyio import to_thread

from tests.backends.failovers import Begin, ended_servers, redis_in, sends
from tests.contract.suite import sample_job
from tests.contract.writing import new
from tests.support.cutting_proxy import CuttingProxy
from tests.support.flows import flow, number
from tests.support.postgres import Pooler, PostgresServer
from tests.support.redis_server import (
    RedisServer,
    WatchedPair,
    standalone,
    wait_for,
)
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available, until, wait_until
from tests.support.workers import enqueued, in_state, worker_with_files
from voiceflow_worker import CallQueue, CallRequest, Job, JobState, open_store
from voiceflow_worker.backends.postgres import database
from voiceflow_worker.backends.redis import client
from voiceflow_worker.core.base.reading import count_states, gates_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Guard, Result, Same
from voiceflow_worker.core.rollback import HELD, HELD_AS_TAKEN_OVER
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import StoreUnavailableError, SuppressedNumberError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Note, NoteKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.service.forget import forget
from voiceflow_worker.service.on_call import Escalation, start_escalation

pytestmark = pytest.mark.anyio


async def goes_on(store: Store, voice: ScriptedVoice, folder: Path, *, held: bool) -> None:
    """A worker begins on the server that took over: it holds the queue, or sends what is new."""
    placed = len(voice.placed)

    async def is_held() -> bool:
        return any(HELD_AS_TAKEN_OVER in gate.reason for gate in await gates_of(store, "default"))

    await once_available(lambda: enqueued(store, 2, first=40))
    async with anyio.create_task_group() as group:
        worker = worker_with_files(store, voice, folder)
        group.start_soon(worker.run)
        if held:
            await until(lambda: once_available(is_held))
            assert len(voice.placed) == placed
        else:
            await until(lambda: len(voice.placed) == placed + 2)
            assert not await is_held()
        worker.stop()
    assert len(voice.rang) == len(set(voice.rang)), "somebody rang twice"


def each_once_and_often(*kinds: str, everyday: bool) -> pytest.MarkDecorator:
    """Each kind of failover: once, and twelve times. Only where nothing is lost may somebody trust it."""
    cases = [(kind, trusted) for kind in kinds for trusted in (False, *[True] * (kind in {"confirmed", "synchronous"}))]
    marks = () if everyday else (pytest.mark.slow,)
    return pytest.mark.parametrize(
        ("kind", "trusted", "times"),
        [
            *(pytest.param(*case, 1, marks=marks) for case in cases),
            *(pytest.param(*case, 12, marks=(pytest.mark.slow, pytest.mark.timeout(600))) for case in cases),
        ],
    )


# -- Redis -------------------------------------------------------------------------------------------------------------


async def follows(replica: RedisServer, primary: RedisServer) -> None:
    """Make it a replica, and wait until the two are in step, and its file has all of it."""
    replica.ask("REPLICAOF", "127.0.0.1", primary.port)
    await until(replica.follows)
    await until(lambda: "aof_rewrite_in_progress:0" in str(replica.ask("INFO", "persistence")))


@each_once_and_often("asynchronous", "confirmed", "added later", "taken away later", everyday=True)
async def test_failovers_of_redis(tmp_path: Path, kind: str, times: int, *, trusted: bool) -> None:
    for each in range(times):
        servers = [redis_in(tmp_path / f"{each}{name}") for name in "abc"]
        try:
            await redis_fails_over(servers, tmp_path / f"{each}", kind=kind, trusted=trusted)
        finally:
            for server in servers:
                server.kill()


async def redis_fails_over(servers: Sequence[RedisServer], folder: Path, *, kind: str, trusted: bool) -> None:
    """Six people are called; then the second server, which may lack that, takes over the address."""
    voice, is_whole = ScriptedVoice(), kind == "confirmed"
    first, second, third = (server.start() for server in servers)
    options = f"?replicas={int(kind != 'asynchronous')}{'&failover=trusted' * trusted}"
    async with (
        CuttingProxy(first.port).listening() as address,
        open_store(f"redis://127.0.0.1:{address.port}{options}", advises=False) as store,
    ):
        if kind != "asynchronous":
            await follows(second if is_whole else third, first)
        await enqueued(store, 3)
        await sends(store, voice, folder / "early", 3)
        await follows(second, first)
        await enqueued(store, 6, first=3)
        await until(lambda: second.ask("DBSIZE") == first.ask("DBSIZE"))
        if not is_whole:
            second.lag()
        await sends(store, voice, folder / "other", 9)
        await SuppressionList(store).add(number(20), reason="asked for it")
        if kind == "taken away later":
            third.ask("REPLICAOF", "NO", "ONE")
        await to_thread.run_sync(first.kill)
        second.ask("REPLICAOF", "NO", "ONE")
        await follows(third, second)
        address.lead_to(second.port)
        await goes_on(store, voice, folder / "one", held=not trusted)


@pytest.mark.parametrize("promoted", [False, True], ids=["a plain one", "one that had taken over"])
async def test_a_restart_of_redis_holds_nothing_and_hides_no_failover_that_anybody_saw(
    tmp_path: Path, *, promoted: bool
) -> None:
    """Only a receiver saw that the server had taken over; a restart makes a Redis forget it."""
    voice, first, second = ScriptedVoice(), redis_in(tmp_path / "a"), redis_in(tmp_path / "b")
    try:
        async with open_store(first.start().url, advises=False) as store:
            await enqueued(store, 2)
            await sends(store, voice, tmp_path / "other", 2)
        if promoted:
            await follows(second.start(), first)
            second.ask("REPLICAOF", "NO", "ONE")
        server = second if promoted else first
        async with open_store(server.url, advises=False):
            pass
        await to_thread.run_sync(server.kill)
        await to_thread.run_sync(server.start)
        async with open_store(server.url, advises=False) as store:
            await goes_on(store, voice, tmp_path / "one", held=promoted)
    finally:
        first.kill()
        second.kill()


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@each_once_and_often("asynchronous", "synchronous", "mixed", "turned off", everyday=False)
async def test_failovers_of_postgresql(tmp_path: Path, kind: str, times: int, *, trusted: bool) -> None:
    for each in range(times):
        async with ended_servers() as begin:
            await postgres_fails_over(begin, tmp_path / f"{each}", kind=kind, trusted=trusted)


def waits_for(server: PostgresServer, names: str) -> None:
    server.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    server.ask("SELECT pg_reload_conf()")


async def postgres_fails_over(begin: Begin, folder: Path, *, kind: str, trusted: bool) -> None:
    """Six people are called; then a standby, which may lack that, takes over."""
    voice, is_whole = ScriptedVoice(), kind == "synchronous"
    primary = await begin(PostgresServer().start)
    if kind == "mixed":
        await begin(partial(primary.standby, "cluster_name=near"))
    standby = await begin(partial(primary.standby, "cluster_name=far"))
    if kind != "asynchronous":
        waits_for(primary, "near" if kind == "mixed" else "far")
    options = {"failover": "trusted"} if trusted else {}
    async with open_store(primary.url(standby.port, **options), advises=False) as store:
        await enqueued(store, 3)
        await sends(store, voice, folder / "early", 3)
        await enqueued(store, 6, first=3)
        if kind == "turned off":
            waits_for(primary, "")
        if not is_whole:
            ((now,),) = primary.ask("SELECT pg_current_wal_lsn()::text")
            await until(lambda: standby.ask("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", now) == [(True,)])
            await to_thread.run_sync(standby.lag)
        await sends(store, voice, folder / "other", 9)
        await SuppressionList(store).add(number(20), reason="asked for it")
        waits_for(standby, "")  # it has the setting of the primary
        await to_thread.run_sync(primary.kill)
        await to_thread.run_sync(standby.promote)
        await goes_on(store, voice, folder / "one", held=not trusted)


# -- Under a worker that runs ------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A server whose standby lags on demand, and then takes over; and how it restarts."""

    url: str
    lags: Callable[[], object]
    fails_over: Callable[[], object]


@contextmanager
def redis_pair(folder: Path) -> Iterator[Pair]:
    pair = WatchedPair(folder)

    def lags() -> None:
        wait_for(lambda: pair.replica.ask("DBSIZE") == pair.primary.ask("DBSIZE"), "replica that has everything")
        pair.replica.lag()

    def fails_over() -> None:
        pair.primary.kill()
        wait_for(lambda: pair.named_port() == pair.replica.port, "promoted replica")

    try:
        yield Pair(pair.start().url, lags, fails_over)
    finally:
        pair.kill()


@contextmanager
def postgres_pair(_: Path) -> Iterator[Pair]:
    with ExitStack() as ends:
        primary = PostgresServer()
        ends.callback(primary.close)
        standby = primary.start().standby()
        ends.callback(standby.close)

        def lags() -> None:
            ((now,),) = primary.ask("SELECT pg_current_wal_lsn()::text")
            has = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            wait_until(lambda: standby.ask(has, now) == [(True,)], "standby that has everything")
            standby.lag()

        def fails_over() -> None:
            primary.kill()
            standby.promote()

        yield Pair(primary.url(standby.port), lags, fails_over)


@pytest.mark.alone
@pytest.mark.parametrize("kind", [redis_pair, postgres_pair])
async def test_a_running_worker_holds_the_queue_after_a_failover_to_what_lagged(
    tmp_path: Path, kind: Callable[[Path], AbstractContextManager[Pair]]
) -> None:
    """Twenty calls left, and somebody opted out, while the standby took nothing: it has them as queued."""
    voice = ScriptedVoice()
    with kind(tmp_path) as pair:
        async with open_store(pair.url, advises=False) as store, anyio.create_task_group() as group:
            queue = await enqueued(store, 20)
            await to_thread.run_sync(pair.lags)
            worker = worker_with_files(store, voice, tmp_path / "journals")
            group.start_soon(worker.run)
            await in_state(store, JobState.ACCEPTED, 20)
            await SuppressionList(store).add(number(20), reason="asked for it")
            await to_thread.run_sync(pair.fails_over)
            await in_state(store, JobState.IN_DOUBT, 20)
            reasons = [gate.reason for gate in await gates_of(store, "default")]
            assert any(HELD_AS_TAKEN_OVER in reason or HELD in reason for reason in reasons)
            for job in await queue.find(states=[JobState.IN_DOUBT], limit=None):
                await queue.resolve(job.id, placed=True, note="seen in the log")
            await enqueued(store, 4, first=21)
            with pytest.raises(SuppressedNumberError):
                await enqueued(store, 1, first=20)
            await queue.resume()
            await until(lambda: len(voice.placed) >= 24)
            worker.stop()
    assert len(voice.placed) == len(set(voice.client_request_ids)) == 24


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_a_server_that_restarts_holds_nothing_and_is_found_within_five_seconds(tmp_path: Path, kind: str) -> None:
    voice = ScriptedVoice()
    server = standalone(tmp_path / "redis") if kind == "redis" else PostgresServer()
    try:
        url = server.start().url if isinstance(server, RedisServer) else server.start().url()
        async with open_store(url, advises=False) as store, anyio.create_task_group() as group:
            await enqueued(store, 10)
            worker = worker_with_files(store, voice, tmp_path / "journals")
            group.start_soon(worker.run)
            await in_state(store, JobState.ACCEPTED, 10)
            await to_thread.run_sync(server.kill)
            await anyio.sleep(1.5)  # the length of the outage
            await to_thread.run_sync(server.start)
            back = time.monotonic()
            await once_available(lambda: enqueued(store, 5, first=10))
            await until(lambda: len(voice.placed) >= 15)
            took = time.monotonic() - back
            assert list(await gates_of(store, "default")) == []
            worker.stop()
    finally:
        server.kill()
        if isinstance(server, PostgresServer):
            server.close()
    assert took < 5, took
    assert len(voice.placed) == len(set(voice.client_request_ids)) == 15


@pytest.mark.alone
async def test_a_restart_behind_a_pooler_that_keeps_the_connections_is_noticed() -> None:
    """A worker whose guard names the server as it was must learn of the new one, or nothing leaves any more."""
    async with ended_servers() as begin:
        primary = await begin(PostgresServer().start)
        pooler = Pooler(primary).start()
        try:
            async with open_store(pooler.url(), advises=False) as store:
                now, known = store.clock.now(), Same("posted", "w", None)
                bulk = BulkWrite(writes=(new(sample_job(1)),), guard=Guard(store.server, known))
                await to_thread.run_sync(primary.stop)
                await to_thread.run_sync(primary.start)
                assert [answer.result for answer in await store.write(bulk, now=now)] == [Result.NOT_VERIFIED]
                bulk = replace(bulk, guard=Guard(store.server, known))
                assert [answer.result for answer in await store.write(bulk, now=now)] == [Result.DONE]
        finally:
            pooler.close()


async def is_not_confirmed(store: Store, *places: int) -> None:
    for place in places:
        with pytest.raises(StoreUnavailableError, match="did not confirm"):
            await SuppressionList(store).add(number(place), reason="asked for it")


async def opt_out(store: Store, place: int) -> None:
    await once_available(lambda: SuppressionList(store).add(number(place), reason="asked for it"))


@pytest.mark.alone
async def test_nothing_leaves_while_the_replica_that_must_confirm_lags(tmp_path: Path) -> None:
    voice, pair = ScriptedVoice(), WatchedPair(tmp_path)
    try:
        url = f"{pair.start().url}?replicas=1&failover=trusted"
        async with open_store(url) as store, anyio.create_task_group() as group:
            await enqueued(store, 5)
            pair.replica.lag()
            await is_not_confirmed(store, 0, 1)
            await to_thread.run_sync(pair.replica.catch_up)
            for place in (0, 1):  # whoever was told no asks again
                await opt_out(store, place)
            await to_thread.run_sync(pair.primary.kill)
            await once_available(lambda: count_states(store, "default"))
            await to_thread.run_sync(pair.primary.start)
            await to_thread.run_sync(wait_for, pair.primary.follows, "old primary that has become a replica")
            worker = worker_with_files(store, voice, tmp_path / "journals")
            group.start_soon(worker.run)
            await until(lambda: len(voice.placed) >= 3)
            await in_state(store, JobState.CANCELLED, 2)
            worker.stop()
    finally:
        pair.kill()
    assert len(voice.placed) == 3, "the two who had opted out before the failover are not called"


_NUMBERS = itertools.count()
ON_CALL = Escalation(numbers=[number(90)], say="Fire.", source="+6531234567", voice_profile="en-IE-EmilyNeural")


async def seen(store: Store, queue: CallQueue) -> Job:
    """What 8x8 has told is noted in a call, as a summary is that is sent again."""
    (job,) = await queue.find(batch_id="told")

    def noted(job: Job) -> Job:
        note = Note(at=job.created_at, kind=NoteKind.RESOLVED, text="told")
        return job if note in job.notes else replace(job, notes=(*job.notes, note))

    return (await Changes(store, CallPolicy()).change(job.id, noted)).new


Order = Callable[[Store, CallQueue], Awaitable[object]]
ORDERS: dict[str, Order] = {
    "enqueue": lambda _, queue: queue.enqueue(flow(number(1)), unique_key="one"),
    "enqueue many": lambda _, queue: queue.enqueue_many(
        [CallRequest(flow=flow(number(place)), unique_key=f"many-{place}") for place in (1, 2)]
    ),
    "start an escalation": lambda _, queue: start_escalation(queue, ON_CALL, name="oncall-new"),
    "hold": lambda _, queue: queue.hold(reason="stop"),
    "resume": lambda _, queue: queue.resume(batch_id="held"),
    "cancel a batch": lambda _, queue: queue.cancel_batch("cancelled"),
    "set the rate": lambda _, queue: queue.set_rate(3.0),
    "reset the rate": lambda _, queue: queue.reset_rate(),
    "suppress": lambda store, _: SuppressionList(store).add(number(3), reason="asked"),
    "take off the list": lambda store, _: SuppressionList(store).remove(number(4)),
    "take back a file": lambda store, _: SuppressionList(store).take_back([number(5)], file="f"),
    "erase": lambda store, _: forget(store, number(6)),
    "a summary": seen,
}


async def prepared(store: Store) -> CallQueue:
    """What the orders are about, on the replica too."""
    queue = CallQueue(store)
    for place, batch in enumerate(("held", "cancelled", "told"), 10):
        await queue.enqueue(flow(number(place)), batch=batch)
    await queue.hold(batch_id="held")
    await SuppressionList(store).add(number(4), reason="asked")
    await SuppressionList(store).add(number(5), reason="asked", file="f")
    (gone,) = [await queue.enqueue(flow(number(6)))]
    await queue.cancel(gone.id)
    return queue


async def is_refused_twice(store: Store, order: Order) -> None:
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await order(store, CallQueue(store))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.slow
async def test_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Order) -> None:
    monkeypatch.setattr(client, "CONFIRM_WITHIN_MS", 200)
    primary, replica = redis_in(tmp_path / "a").start(), redis_in(tmp_path / "b").start()

    try:
        await follows(replica, primary)
        async with open_store(f"{primary.url}?replicas=1") as store:
            await prepared(store)
            replica.pause()
            await is_refused_twice(store, order)
            replica.go_on()
            await once_available(lambda: order(store, CallQueue(store)))
    finally:
        primary.kill()
        replica.kill()


@pytest.fixture(scope="module")
def waiting_server() -> Generator[PostgresServer]:
    """Commits of `strict` wait for a standby that does not answer."""
    server = PostgresServer("synchronous_standby_names=nobody", "synchronous_commit=local").start()
    server.ask("CREATE ROLE strict SUPERUSER LOGIN")
    server.ask("ALTER ROLE strict SET synchronous_commit = on")
    yield server
    server.close()


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.slow
async def test_postgresql(waiting_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, order: Order) -> None:
    schema = f"s{next(_NUMBERS)}"
    async with open_store(waiting_server.url(schema=schema), advises=False) as store:
        await prepared(store)
        async with open_store(waiting_server.url(schema=schema, user="strict"), advises=False) as strict:
            monkeypatch.setattr(database, "ANSWER_WITHIN", 1.0)
            await is_refused_twice(strict, order)
        monkeypatch.undo()
        # What waits for the standby holds its locks.
        waiting_server.ask("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'strict'")
        await order(store, CallQueue(store))


_WAITS = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.mark.slow
async def test_a_commit_of_postgresql_whose_wait_for_a_standby_was_cancelled_is_no_yes() -> None:
    """The server answers that it is done, with a warning in its own language."""
    server = PostgresServer("lc_messages=C")
    try:
        server.start()
        async with open_store(server.url(schema="confirmed", failover="trusted")) as store:
            await CallQueue(store).enqueue(flow(number(1)))
            server.ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            server.ask("SELECT pg_reload_conf()")

            async def cancel() -> None:
                await until(lambda: bool(server.ask(_WAITS)))
                server.ask(f"SELECT pg_cancel_backend(pid) FROM ({_WAITS}) AS waiting")

            async with anyio.create_task_group() as group:
                group.start_soon(cancel)
                with pytest.raises(StoreUnavailableError, match="committed without waiting for its standbys"):
                    await SuppressionList(store).add(number(2))
    finally:
        server.kill()
        server.close()
