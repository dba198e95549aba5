"""What stands in the way of a queue's calls: a line for each cause, with who has met it and what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.samples import ManualClock
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.workers import enqueued
from voiceflow_worker import CallQueue
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.base.identity import new_worker_id
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.heartbeats import EVERY, HEARD, Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.controls import limits_put
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.errors import StoreFullError
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.service.whole_queue import read_queue

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(clock: ManualClock) -> Store:
    return MemoryStore(clock=clock)


def beat(name: str, failing: dict[str, str] | None = None, *, rate: float = 0.0) -> WorkerBeat:
    return WorkerBeat(worker_id=name, queue="default", rate=rate, in_flight=0, failing=failing or {})


async def told(store: Store, check: str) -> list[tuple[str, str]]:
    found = await read_queue(CallQueue(store))
    return [(each.message, each.remedy or "") for each in found.conditions if each.check == check]


async def test_a_hold_has_a_line_for_each_cause(store: Store, clock: ManualClock) -> None:
    key = "8x8 does not accept the API key (401): check it"

    async def held(reason: str, *kinds: GateKind) -> list[tuple[str, str]]:
        now = clock.now()
        await order_gate(
            store, Gate.of("default", None, GateState.HELD, since=now, reason=reason, kinds=frozenset(kinds))
        )
        return await told(store, "holds")

    alone = f"queue default is held until somebody resumes it: {key}"
    assert await held(key) == [(alone, "correct the cause, then `voiceflow resume`")]
    assert await held("lunch") == [
        (alone, "correct the causes, then `voiceflow resume`"),
        ("queue default is also held: lunch", ""),
    ]
    first, *others = await held("another server has taken over", GateKind.MAY_LACK)
    assert first[0] == alone
    assert first[1].startswith("do not resume yet: what the lines after this one say, then add opt-outs")
    assert [message for message, _ in others] == [
        "queue default is also held: lunch",
        "queue default is also held: another server has taken over",
    ]


async def test_a_store_that_takes_no_write_is_named_with_those_who_run(store: Store, clock: ManualClock) -> None:
    here = new_worker_id()
    await enqueued(store, 2)
    await Heartbeats(store).worker(beat(here))
    await Heartbeats(store).receiver("elsewhere-77-abc")
    at = f"until {clock.now():%Y-%m-%d %H:%M:%S} UTC"
    clock.advance(HEARD + timedelta(seconds=1))

    async def full(call: StoreCall) -> None:
        if call.name == "write":
            raise StoreFullError("the disk of the store /data/calls.db is full")

    ((message, _),) = await told(FaultyStore(store, before=full), "store")
    assert message == (
        "not every worker and receiver is heard: the disk of the store is full: free space on it; receiver "
        f"elsewhere-77-abc {at}; worker {here} {at}"
    )
    ((message, _),) = await told(store, "store")
    assert "they were killed, or the store was away" in message, "it takes writes again"


async def test_a_receiver_is_missed_once_others_were_heard_for_long_enough_after_it(
    store: Store, clock: ManualClock
) -> None:
    """A worker whose last heartbeat was a little later may be cut off by the same fault."""
    beats, worker = Heartbeats(store), beat("w1")
    await beats.worker(worker)
    await beats.receiver("elsewhere-77-abc")
    clock.advance(EVERY - timedelta(seconds=1))
    await beats.worker(worker)
    clock.advance(HEARD)
    assert list(await beats.silent()) == ["receiver elsewhere-77-abc"], "its worker is heard still"
    for _ in range(3):
        clock.advance(EVERY)
        await beats.worker(worker)
    assert not await beats.silent()


async def test_the_rate_beside_a_killed_worker_is_what_was_sent(store: Store, clock: ManualClock) -> None:
    beats, queue = Heartbeats(store), CallQueue(store)
    limits = limits_put("default", Limits(rate=30, burst=6))
    await store.write(BulkWrite(writes=(Write(puts=(limits,)),)), now=clock.now())
    await beats.worker(beat("killed", rate=19.4))
    clock.advance(EVERY)
    await beats.worker(beat("alive", rate=19.4))
    assert (await queue.status()).rate_now == 31.0, "the rate, and the burst in five seconds"
    clock.advance(timedelta(seconds=2))
    assert (await queue.status()).rate_now == 19.4


async def test_a_clock_that_differs_is_reported() -> None:
    class Ahead(SystemClock):
        def now(self) -> datetime:
            return datetime.now(UTC) + timedelta(minutes=5)

    store = MemoryStore(clock=Ahead())
    ((message, _),) = await told(store, "clock")
    assert message == "the clock of the store is 5 min ahead of the clock of this machine; calls are due by the store's"
