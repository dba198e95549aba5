"""Orders of the last seconds before a server that lags takes over, and before a store is restored to an older state.

They are given on machines that have journals of their own. When a person has resumed the queue, nobody who opted out
rings, and the hold has named the other orders. The standby has nothing of it, or the first of the orders may have come
to it, and the others have not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from tests.backends.failovers import Begin, ended_servers, redis_in, sends
from tests.support.cutting_proxy import CuttingProxy
from tests.support.flows import number
from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available, until
from tests.support.workers import enqueued, worker_with_files
from voiceflow_worker import CallQueue, Escalation, open_store, start_escalation
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.queues import Hold
from voiceflow_worker.actions.suppression import Suppress
from voiceflow_worker.core.audit import Interface
from voiceflow_worker.core.base.reading import gates_at, gates_of
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.menu_data import do_not_call_again
from voiceflow_worker.model.jobs.gate import GateKind
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.settings import load_settings

pytestmark = pytest.mark.anyio

RINGS, BY_KEY, ON_PAGES, BY_API, BY_COMMAND, CANCELLED, HELD, OF_CANCELLED, ALARMED, ELSEWHERE = range(10)
OPTED_OUT = (BY_KEY, ON_PAGES, BY_API, BY_COMMAND)
NOT_CARRIED_OUT = (CANCELLED, HELD, OF_CANCELLED)


ORDERS = 9


class Machines:
    """Machines that give orders to one store, each with a journal of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def settings(self, machine: str) -> Any:
        return load_settings(store=self.url, state_dir=str(self.folder / machine))

    @asynccontextmanager
    async def on(self, machine: str) -> AsyncGenerator[Store]:
        async with open_store(self.url, advises=False, settings=self.settings(machine)) as store:
            yield store

    async def command(self, *arguments: str) -> None:
        """A command on the machine of that name, as a process of its own."""
        given = {"VOICEFLOW_STORE": self.url, "VOICEFLOW_STATE_DIR": str(self.folder / "command")}
        program = [sys.executable, "-m", "voiceflow_worker", *arguments]
        run = partial(subprocess.run, program, env={**os.environ, **given}, capture_output=True, check=False, text=True)
        ended = await to_thread.run_sync(run)
        assert ended.returncode == 0, ended.stderr


class Campaign:
    """Calls to people, of whom each gets one order, and one none."""

    def __init__(self) -> None:
        self.ids: dict[int, str] = {}

    async def begin(self, store: Store) -> None:
        batches = {HELD: "held", OF_CANCELLED: "dropped"}
        for place in range(ALARMED):
            queue = await enqueued(store, 1, first=place, batch=batches.get(place))
            (job,) = [each for each in await queue.find(limit=None) if each.number == number(place)]
            self.ids[place] = job.id
        alarm = Escalation(
            numbers=[number(ALARMED)], say="Full.", source="+6531234567", voice_profile="en-IE-EmilyNeural"
        )
        await start_escalation(CallQueue(store), alarm, name="oncall-incident")

    async def orders(self, machines: Machines, receiver: Store, *, commands: bool) -> AsyncGenerator[None]:
        """Give them, one after another, with a turn before each."""
        yield
        caller = Caller(now=datetime.now(UTC), digits="9", menu="ask", number=number(BY_KEY), store=receiver)
        await do_not_call_again(caller)
        async with machines.on("pages") as store:
            pages = Operator(store, CallPolicy(), name="Ann", on=Interface.PAGES)
            yield
            await Suppress(operator=pages, numbers=(number(ON_PAGES),)).do()
            api = Operator(store, CallPolicy(), name="crm", on=Interface.API)
            yield
            await Suppress(operator=api, numbers=(number(BY_API),)).do()
            yield
            await Hold(operator=pages, queue="default", batch="held", note="wrong text").do()
            yield
            await Hold(operator=pages, queue="other", note="a fire").do()
            queue = CallQueue(store)
            yield
            await queue.cancel(self.ids[CANCELLED])
            yield
            await queue.cancel_batch("dropped")
            yield
            await queue.cancel_batch("oncall-incident")
        yield
        if commands:
            await machines.command("suppress", "add", number(BY_COMMAND), "--note", "asked for it")
        else:
            await SuppressionList(receiver).add(number(BY_COMMAND))

    async def stands(self, store: Store) -> None:
        """Each opt-out is on the list."""
        listed = await SuppressionList(store).find(*map(number, OPTED_OUT))
        assert set(listed) == set(map(number, OPTED_OUT))


NAMED = {
    1: "suppress by Ann",
    2: "suppress by crm",
    3: "batch held is held",
    4: "queue other is held",
    5: ": cancelled",
    6: "batch dropped is cancelled",
    7: "batch oncall-incident is cancelled",
}
"""The words for an order in the reason of the hold, by the place of the order."""


def named_from(place: int) -> list[str]:
    """Return the words for the first five orders that a store lacks, if it lacks those from that place on."""
    return [words for each, words in NAMED.items() if each >= place][:5]


async def is_held(store: Store) -> bool:
    gates = await gates_of(store, "default")
    return any(gate.is_closed(at=store.clock.now()) and GateKind.MAY_LACK in gate.kinds for gate in gates)


async def goes_on(machines: Machines, receiver: Store, campaign: Campaign, *, at: int) -> None:
    """A worker begins, machines look into their journals, a person resumes, and what is due rings."""
    voice = ScriptedVoice()
    await once_available(lambda: Heartbeats(receiver).receiver("receiver"))
    async with machines.on("worker") as store, anyio.create_task_group() as group:
        worker = worker_with_files(store, voice, machines.folder / "worker-files")
        group.start_soon(worker.run)
        await until(lambda: once_available(lambda: is_held(store)))
        async with machines.on("pages"):
            pass
        if at > 0:
            await machines.command("status")
        assert not voice.placed
        gate = (await gates_at(store, "default", [None]))[None]
        assert all(each in gate.reason for each in named_from(at)), gate.reason
        await campaign.stands(receiver)
        queue = CallQueue(store)
        for place in NOT_CARRIED_OUT:  # as the person decides who has read the reason
            if (await queue.get(campaign.ids[place])).state is not JobState.CANCELLED:
                await queue.cancel(campaign.ids[place])
        await queue.cancel_batch("oncall-incident")
        await queue.resume()
        await until(lambda: number(RINGS) in voice.rang)
        await enqueued(store, 1, first=50)
        await until(lambda: number(50) in voice.rang)
        worker.stop()
    assert sorted(voice.rang) == sorted(map(number, (RINGS, 50)))


Step = Callable[[], Awaitable[object]]


async def orders_are_lost(machines: Machines, link: CuttingProxy, *, follows: Step, fails_over: Step, at: int) -> None:
    """Orders are given, and from that one on none comes to the standby, which `follows` through a link."""
    campaign, late = Campaign(), at > 0
    async with machines.on("receiver") as receiver:
        await enqueued(receiver, 1, first=60)
        await sends(receiver, ScriptedVoice(), machines.folder / "early", 1)
        await campaign.begin(receiver)
        await follows()
        place = 0
        async for _ in campaign.orders(machines, receiver, commands=late):
            link.withholds = place >= at
            place += 1
        assert place == ORDERS
        await fails_over()
        await goes_on(machines, receiver, campaign, at=at)


async def test_orders_outlive_the_restoring_of_a_file(tmp_path: Path) -> None:
    machines, campaign, file = Machines(f"sqlite:///{tmp_path}/calls.db", tmp_path), Campaign(), tmp_path / "calls.db"
    async with machines.on("pages") as store:
        await enqueued(store, 1, first=60)
        await sends(store, ScriptedVoice(), tmp_path / "early", 1)
        await campaign.begin(store)
    older = file.read_bytes()
    async with machines.on("pages") as store:
        async for _ in campaign.orders(machines, store, commands=False):
            pass
        await campaign.stands(store)
    file.write_bytes(older)
    for _ in range(2):  # once is enough
        async with machines.on("pages") as store:
            await campaign.stands(store)
            reason = (await gates_at(store, "default", [None]))[None].reason
            assert all(each in reason for each in named_from(0))


AT = pytest.mark.parametrize(
    "places",
    [
        pytest.param((0,), id="all"),
        pytest.param(range(1, ORDERS), marks=(pytest.mark.slow, pytest.mark.timeout(1800)), id="the last ones"),
    ],
)


@AT
async def test_orders_outlive_a_failover_of_redis(tmp_path: Path, places: Sequence[int]) -> None:
    for at in places:
        await redis_fails_over(tmp_path / f"{at}", at=at)


def place_of(server: RedisServer, name: str) -> int:
    """How far its replication has come."""
    return int(str(server.ask("INFO", "replication")).partition(f"{name}:")[2].split()[0].partition("\\")[0])


async def redis_fails_over(folder: Path, *, at: int) -> None:
    first, second = (redis_in(folder / name) for name in "ab")
    async with AsyncExitStack() as ends:
        for server in (first, second):
            server.start()
            ends.callback(server.kill)
        address, link = [await ends.enter_async_context(CuttingProxy(first.port).listening()) for _ in range(2)]

        async def follows() -> None:
            # The answers of the primary are what it replicates.
            await to_thread.run_sync(second.ask, "REPLICAOF", "127.0.0.1", link.port)
            await until(second.follows)
            now = place_of(first, "master_repl_offset")
            await until(lambda: place_of(second, "slave_repl_offset") >= now)

        async def fails_over() -> None:
            await to_thread.run_sync(first.kill)
            second.ask("REPLICAOF", "NO", "ONE")
            address.lead_to(second.port)

        machines = Machines(f"redis://127.0.0.1:{address.port}?replicas=0", folder)
        await orders_are_lost(machines, link, follows=follows, fails_over=fails_over, at=at)


@pytest.mark.slow
@AT
async def test_orders_outlive_a_failover_of_postgresql(tmp_path: Path, places: Sequence[int]) -> None:
    for at in places:
        async with ended_servers() as begin:
            await postgres_fails_over(begin, tmp_path / f"{at}", at=at)


async def postgres_fails_over(begin: Begin, folder: Path, *, at: int) -> None:
    primary = await begin(PostgresServer().start)
    standby = await begin(partial(primary.standby, "cluster_name=far"))
    async with CuttingProxy(primary.port).listening() as link:

        async def follows() -> None:
            await to_thread.run_sync(standby.follow, link.port, "far")
            await until(lambda: b"START_REPLICATION" in b"".join(link.requests))
            ((now,),) = primary.ask("SELECT pg_current_wal_lsn()::text")
            await until(lambda: standby.ask("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", now) == [(True,)])

        async def fails_over() -> None:
            await to_thread.run_sync(primary.kill)
            await to_thread.run_sync(standby.promote)

        machines = Machines(primary.url(standby.port), folder)
        await orders_are_lost(machines, link, follows=follows, fails_over=fails_over, at=at)
