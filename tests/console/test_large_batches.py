"""Stores of many batches."""

from __future__ import annotations

import pytest

from tests.console.signing_in import receiver, signed_in
from tests.support.faulty_store import FaultyStore
from tests.support.flows import flow
from voiceflow_worker import CallQueue, CallRequest, Store

pytestmark = pytest.mark.anyio


PAGES = (
    "", "/batches", "/batches?name=batch%201", "/batches/batch%207?queue=default", "/calls", "/calls?batch=batch%207",
    "/calls?state=queued", "/calls/{call}", "/doubts", "/suppression", "/campaign",
    "/act/hold?queue=default&batch=batch%207", "/act/hold?of=default/batch%207&of=default/batch%208",
    "/export/csv?batch=batch%207", "/?find=%2B6581234567",
)  # fmt: skip


async def many_batches(store: Store, first: int, last: int) -> None:
    """So many batches of two calls."""
    for start in range(first, last, 500):
        await CallQueue(store).enqueue_many(
            [
                CallRequest(flow=flow(f"+65{80000000 + 2 * place + turn}"), batch=f"batch {place}")
                for place in range(start, min(start + 500, last))
                for turn in range(2)
            ]
        )


async def trips_of_pages(store: Store) -> dict[str, int]:
    """How often each page asks the store."""
    counted = FaultyStore(store)
    (call, *_) = await CallQueue(store).find(batch_id="batch 7")
    trips = dict[str, int]()
    async with signed_in(receiver(counted)) as client:
        for path in PAGES:
            before = sum(counted.made.values())
            answer = await client.get(f"/ui{path.format(call=call.id)}")
            assert answer.status_code in {200, 303, 409}, path
            trips[path] = sum(counted.made.values()) - before
    return trips


async def test_a_page_asks_a_store_of_many_batches_no_more_often_than_one_of_few(memory: Store) -> None:
    await many_batches(memory, 0, 60)
    few = await trips_of_pages(memory)
    await many_batches(memory, 60, 600)
    many = await trips_of_pages(memory)
    assert few["/batches"] < 20, "no round trip for each of its 50 batches"
    # The place of the last events is found by halving. A search looks through so many names, and no more.
    most = {path: count + 8 for path, count in few.items()} | {"/batches?name=batch%201": 100}
    assert {path: (few[path], count) for path, count in many.items() if count > most[path]} == {}
