"""What workers and people cost beside processor time: trips to the store, syncs of a file, tasks, writes.

Nothing here depends on the machine. A change that adds a trip for each call, or one more for each batch, fails.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.contract.samples import NOW, ManualClock, sample_job
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.manual_time import passing
from tests.support.voices import ScriptedVoice
from tests.support.workers import enqueued, worker_for
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    JobState,
    open_store,
)
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.base.identity import batch_puts
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import gate_put, hold_put
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.core.writes import NUMBER, inserted
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState, HoldKind
from voiceflow_worker.reporting.batches import read_batches
from voiceflow_worker.reporting.status import waits_in_words

pytestmark = pytest.mark.anyio
POLICY = CallPolicy()


A_BATCH = {
    "lease": 2,  # that of the next calls, while the verdicts are stored
    "records of numbers": 0,  # the journal asks
    "jobs written": 2,  # the journal, and the verdicts
}
"""The trips of calls that are leased together, however many they are."""


async def drained(
    store: FaultyStore, clock: ManualClock, calls: int, *, local_journal: JournalFiles | None = None
) -> None:
    """Send this many calls, all at once."""
    await passing(clock, worker_for(store, ScriptedVoice(), concurrency=calls, local_journal=local_journal).drain)


async def test_calls_that_are_leased_together_make_these_trips_however_many_they_are(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.core.worker.MOST_UNANSWERED", 60)
    made = [await trips_of(calls, clock) for calls in (10, 40)]
    assert made[0] == made[1]
    assert {name: made[0][name] for name in A_BATCH} == A_BATCH


def name_of(call: StoreCall) -> str:
    """The name of a trip that a call costs; others are the worker's own."""
    if call.name == "write" and call.stores:
        return "jobs written"
    if call.name == "records" and NUMBER in call.arguments[0]:
        return "records of numbers"
    return call.name


async def trips_of(calls: int, clock: ManualClock) -> Counter[str]:
    """The trips to the store from the lease of some calls to the commit of their verdicts."""
    trips: list[str] = []

    async def note(call: StoreCall) -> None:
        trips.append(name_of(call))

    async with open_store("memory://", clock=clock) as opened:
        store = FaultyStore(opened)
        await enqueued(store, calls)
        store.before = note
        await drained(store, clock, calls)
    return Counter(trips[trips.index("lease") : len(trips) - trips[::-1].index("jobs written")])


@pytest.mark.parametrize(("rate", "leases"), [(10, 0.6), (50, 0.3), (200, 0.15)])
async def test_a_paced_call_makes_two_trips_beside_its_share_of_a_lease(
    clock: ManualClock, rate: float, leases: float
) -> None:
    calls = 200
    trips = Counter[str]()

    async def note(call: StoreCall) -> None:
        trips[name_of(call)] += 1
        await clock.sleep(0.002)

    async with open_store("memory://", clock=clock) as opened:
        store = FaultyStore(opened)
        await enqueued(store, calls)
        store.before = note
        await passing(clock, worker_for(store, ScriptedVoice(), rate=rate).drain)
    assert trips["records of numbers"] == 0
    assert trips["jobs written"] <= 2 * calls
    assert trips["lease"] <= leases * calls + 10


@pytest.mark.parametrize(("rate", "leases"), [(10, 0.6), (50, 0.3)])
async def test_a_paced_call_wakes_a_worker_only_for_its_slot_and_what_leads_to_it(
    clock: ManualClock, rate: float, leases: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call waits for its entry and its slot, its share of a lease for that; what else waits does so by the second."""
    calls, waits = 200, 0
    wait = clock.sleep

    async def counted(seconds: float) -> None:
        nonlocal waits
        waits += 1
        await wait(seconds)

    async with open_store("memory://", clock=clock) as store:
        await enqueued(store, calls)
        monkeypatch.setattr(clock, "sleep", counted)
        began = clock.monotonic()
        await passing(clock, worker_for(store, ScriptedVoice(), rate=rate).drain)
    seconds = clock.monotonic() - began
    assert waits <= (2 + leases) * calls + 3 * seconds


async def test_a_call_that_comes_alone_is_journalled_before_the_worker_looks_for_more(clock: ManualClock) -> None:
    """Trips beside those of the call would delay it."""
    trips: list[str] = []

    async def note(call: StoreCall) -> None:
        trips.append(name_of(call))

    async with open_store("memory://", clock=clock) as opened:
        store = FaultyStore(opened)
        await enqueued(store, 1)
        store.before = note
        await passing(clock, worker_for(store, ScriptedVoice(), concurrency=10).drain)
    assert trips[: trips.index("jobs written")].count("lease") == 1
    assert trips.count("lease") > 1


async def test_calls_that_are_leased_together_share_a_sync_of_the_journal_file(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.core.worker.MOST_UNANSWERED", 60)
    done: Counter[str] = Counter()
    sync = os.fsync

    def counted(fd: int) -> None:
        done["syncs"] += stat.S_ISREG(os.fstat(fd).st_mode) and b'"head"' in Path(f"/proc/self/fd/{fd}").read_bytes()
        sync(fd)

    async def note(call: StoreCall) -> None:
        if any(job.state is JobState.SENDING for job in call.stores):
            done["batches"] += 1

    async with open_store("memory://", clock=clock) as opened:
        store = FaultyStore(opened, before=note)
        await enqueued(store, 60)
        monkeypatch.setattr(os, "fsync", counted)
        await drained(store, clock, 60, local_journal=JournalFiles(tmp_path))
    assert done == {"batches": 1, "syncs": 1}


async def why_calls_wait(store: Store) -> None:
    calls = await CallQueue(store).find(states=[JobState.QUEUED], limit=30)
    assert len(await waits_in_words(store, calls)) == len(calls)


LOOKS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "status": lambda store: CallQueue(store).status(),
    "a page of batches": lambda store: read_batches(store, ["default"]),
    "why calls wait": why_calls_wait,
    "a sweep": lambda store: Sweeper(store, queue="default", policy=POLICY).sweep(),
}


async def fill(store: Store, first: int, last: int) -> None:
    """Batches that ended, that are held and have no calls, or that are cancelled; staged calls and calls that wait."""
    gates, jobs = [], []
    for place in range(first, last):
        ended = {"batch_id": f"b{place}", "state": JobState.COMPLETED, "due_at": NOW}
        jobs.append(
            inserted(sample_job(place, **ended), puts=batch_puts("default", f"b{place}", at=NOW, is_campaign=True))
        )
        jobs.append(inserted(sample_job(10_000 + place, batch_id="import", worker_id="+x", due_at=NOW)))
        jobs.append(inserted(sample_job(20_000 + place, batch_id=f"w{place}")))
        gates.append(Write(puts=(gate_put(Gate.of("default", f"h{place}", GateState.HELD, since=NOW), token="t"),)))
        await order_gate(store, Gate.of("default", f"c{place}", GateState.CANCELLED, since=NOW))
    await store.write(BulkWrite(writes=(*gates, *jobs)), now=NOW)


async def test_no_look_takes_more_trips_in_a_larger_store() -> None:
    memory = MemoryStore(clock=ManualClock(NOW))
    hold = replace(Gate.of("default", "import", GateState.HELD, since=NOW), holder=HoldKind.IMPORT, token="+x")
    await memory.write(BulkWrite(writes=(Write(puts=(hold_put(hold),)),)), now=NOW)
    costs = list[dict[str, Counter[str]]]()
    for first, last in ((0, 5), (5, 300)):
        await fill(memory, first, last)
        await LOOKS["a sweep"](memory)  # which ends the cancelled batches
        status = await CallQueue(memory).status()
        assert status.waiting.importing == last
        costs.append({})
        for name, look in LOOKS.items():
            store = FaultyStore(memory)
            await look(store)
            costs[-1][name] = store.made
    assert costs[0] == costs[1]
