"""What calls that leave together cost beside processor time: trips to the store, syncs of a file, tasks, writes.

Nothing here depends on the machine. A change that adds a trip for each call, or one more for each batch, fails.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path

import pytest

from tests.contract.samples import ManualClock
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.manual_time import passing
from tests.support.voices import ScriptedVoice
from tests.support.workers import enqueued, worker_for
from voiceflow_worker import JobState, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.core.writes import NUMBER

pytestmark = pytest.mark.anyio

A_BATCH = {
    "lease": 1,
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
        done["syncs"] += stat.S_ISREG(os.fstat(fd).st_mode) and os.fstat(fd).st_size > 200  # it has entries
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
