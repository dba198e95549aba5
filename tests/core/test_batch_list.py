"""The list of batches: the newest first, a page at a time, at a cost that does not grow with the store."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest

from tests.contract.samples import NOW, ManualClock, sample_job
from tests.support.faulty_store import FaultyStore
from tests.support.flows import flow, number
from voiceflow_worker import CallQueue
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.core.base.identity import BATCH_KEPT, PROGRAMS, BatchNames, batch_puts
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import gate_put, start_put
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.core.writes import inserted
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.reporting.batches import BATCHES_A_PAGE, read_batches, read_newest

pytestmark = pytest.mark.anyio


async def made(
    store: Store, name: str, *, state: JobState = JobState.QUEUED, is_campaign: bool = True, queue: str = "default"
) -> None:
    """A batch of one call in this state, made at the present time of the store."""
    now = store.clock.now()
    job = sample_job(hash(name) % 10**9, batch_id=name, state=state, queue=queue)
    puts = batch_puts(queue, name, at=now, is_campaign=is_campaign)
    await store.write(BulkWrite(writes=(inserted(job, puts=puts),)), now=now)


async def names_of(store: Store, *, limit: int = BATCHES_A_PAGE, name: str = "") -> list[list[str | None]]:
    """The names of all pages."""
    pages: list[list[str | None]] = []
    after: str | None = ""
    while after is not None:
        page = await read_batches(store, ["default", "other"], after=after, limit=limit, name=name)
        pages.append([each.batch_id for each in page.batches])
        after = page.after
    return pages


async def test_pages_hold_each_batch_of_all_queues_once_the_newest_first(any_store: Store, clock: ManualClock) -> None:
    for place in range(23):
        await made(any_store, f"b{place}", queue="default" if place % 3 else "other", is_campaign=place % 2 == 0)
        clock.advance(timedelta(seconds=1))
    wanted = [f"b{place}" for place in reversed(range(23))]
    for limit in (1, 4, 23, 50):
        pages = await names_of(any_store, limit=limit)
        assert [name for page in pages for name in page] == wanted
        assert all(len(page) == limit for page in pages[:-1])
    assert await names_of(any_store, name="B1") == [[each for each in wanted if "b1" in each]]


async def test_a_batch_whose_calls_are_gone_is_in_no_page_and_the_page_is_full_all_the_same() -> None:
    store = MemoryStore(clock=ManualClock(NOW))
    for place in range(20):
        puts = batch_puts("default", f"gone {place}", at=NOW + timedelta(seconds=place), is_campaign=True)
        await store.write(BulkWrite(writes=(Write(puts=puts),)), now=NOW)
    await made(store, "first")
    assert (await names_of(store, limit=1))[0] == ["first"]


async def test_two_processes_that_make_one_batch_at_once_make_one_entry() -> None:
    clock = ManualClock(NOW)
    store = MemoryStore(clock=clock)
    await made(store, "march")
    clock.advance(timedelta(seconds=2))
    # The second has not seen the name of the first.
    puts = batch_puts("default", "march", at=clock.now(), is_campaign=True)
    await store.write(BulkWrite(writes=(Write(puts=puts),)), now=clock.now())
    assert await names_of(store) == [["march"]]
    assert [each.name for each in await BatchNames(store, "default").page(limit=1)] == ["march"]


async def test_a_batch_keeps_its_place_when_more_calls_come_and_has_its_name_until_the_end() -> None:
    clock = ManualClock(NOW)
    store = MemoryStore(clock=clock)
    for batch in ("one", "two", "one"):
        await CallQueue(store).enqueue(flow(number(0)), batch_id=batch)
        clock.advance(timedelta(minutes=1))
    assert await names_of(store) == [["two", "one"]]
    assert [each.name for each in await BatchNames(store, "default").page(of=[PROGRAMS])] == ["two", "one"]
    clock.advance(BATCH_KEPT)
    assert await BatchNames(store, "default").page() == []


async def test_what_is_in_progress_comes_first_and_ended_batches_of_programs_come_last() -> None:
    clock = ManualClock(NOW)
    store = MemoryStore(clock=clock)
    ended = JobState.COMPLETED
    for name, state, is_campaign in (
        ("old campaign", ended, True), ("waiting", JobState.QUEUED, False), ("new campaign", ended, True),
        ("alarm", ended, False), ("another alarm", ended, False),
    ):  # fmt: skip
        await made(store, name, state=state, is_campaign=is_campaign)
        clock.advance(timedelta(seconds=1))
    found = await read_newest(store, ["default"], limit=4)
    assert [each.batch_id for each in found] == ["waiting", "new campaign", "old campaign", "another alarm"]


async def test_held_batches_without_calls_and_staged_calls_cost_a_status_nothing() -> None:
    memory = MemoryStore(clock=ManualClock(NOW))
    start = replace(Gate.of("default", "import", GateState.HELD, since=NOW), start="+x")
    await memory.write(BulkWrite(writes=(Write(puts=(start_put(start),)),)), now=NOW)
    await made(memory, "waits")
    costs: list[Counter[str]] = []
    for first, last in ((0, 5), (5, 1500)):
        writes = [
            Write(puts=(gate_put(Gate.of("default", f"held {place}", GateState.HELD, since=NOW), token="t"),))
            for place in range(first, last, 10)
        ]
        staged = [sample_job(place, batch_id="import", worker_id="+x", due_at=NOW) for place in range(first, last)]
        await memory.write(BulkWrite(writes=(*writes, *map(inserted, staged))), now=NOW)
        store = FaultyStore(memory)
        status = await CallQueue(store).status()
        assert [each.calls for each in status.imports] == [last]
        assert status.waiting.hold == last
        costs.append(Counter(store.made))
    assert costs[0] == costs[1]


async def test_a_page_costs_the_same_in_a_store_with_ten_times_as_many_batches() -> None:
    clock = ManualClock(NOW)
    memory = MemoryStore(clock=clock)
    costs: list[Counter[str]] = []
    for amount in (100, 1000):
        for place in range(amount):
            await made(memory, f"{amount}-{place}", state=JobState.COMPLETED, is_campaign=place % 2 == 0)
            clock.advance(timedelta(milliseconds=1))
        store = FaultyStore(memory)
        await read_batches(store, ["default"])
        await read_newest(store, ["default"], limit=10)
        costs.append(Counter(store.made))
    assert all(before == after for before, after in pairwise(costs)), costs
