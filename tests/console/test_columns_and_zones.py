"""Calls are found by the columns of their file, and times are in the zone of the queue."""

from __future__ import annotations

import pytest

from tests.console.signing_in import READERS, receiver, signed_in
from tests.console.test_pages import Page, enqueued
from tests.support.flows import flow, number
from voiceflow_worker import CallQueue, CallRequest, Store

pytestmark = pytest.mark.anyio


async def test_a_batch_is_searched_by_any_column(memory: Store) -> None:
    requests = [
        CallRequest(flow=flow(number(place)), batch_id="march", data={"room": f"R{place}", "patient": "Ana"})
        for place in range(30)
    ]
    await CallQueue(memory).enqueue_many(requests)
    async with signed_in(receiver(memory), READERS) as client:
        assert 'name="column"' not in (await client.get("/ui/calls")).text, "columns are those of one batch"
        found = await client.get("/ui/calls?batch=march&column=room&value=r1")
        shown = Page(found.text)
        assert ">patient</th>" in found.text, "the column that people are called by is told"
        assert len(shown.links("/calls/")) == 11  # R1, and R10 to R19


async def test_times_are_in_the_zone_of_the_queue_and_pages_and_exports_name_it(memory: Store) -> None:
    await enqueued(memory, 3, batch_id="march", time_zone="Asia/Singapore")
    await CallQueue(memory, "berlin").enqueue(flow("+4915112345678"), batch_id="may")
    async with signed_in(receiver(memory), READERS) as client:
        zones = {"calls": "Asia/Singapore", "batches/may?queue=berlin": "Europe/Berlin", "calls?queue=x": "UTC"}
        for address, zone in zones.items():
            found = (await client.get(f"/ui/{address}")).text
            assert (f'data-zone="{zone}"' in found, f"Times: {zone}" in found) == (True, True), address
        told = await client.get("/ui/export/csv?queue=default&batch=march")
        assert "+08:00" in told.text
