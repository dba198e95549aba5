"""Two receivers on one store, behind a proxy that sends each request to the next: both have what was uploaded."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest

from tests.console.signing_in import FROM_HERE, HOST, OPERATORS, Form, receiver, sign_in
from tests.contract.suite import ManualClock
from tests.support.other_process import work_here
from voiceflow_worker import CallQueue, Store, open_store
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.service import uploads
from voiceflow_worker.service.uploads import FOUND, KEPT_FOR, PIECES, Uploads

__all__ = ["work_here"]
pytestmark = pytest.mark.anyio
KINDS = pytest.mark.parametrize("store_url", ["memory", "sqlite", "postgres", "redis"], indirect=True)
PEOPLE = "destination,name\n" + "".join(f"+65{90000000 + place},Ana {place}\n" for place in range(200))
PRICES = b"prefix,per_call,currency\n65,0.05,SGD\n"
WORDS = {"say": "Hello {{name}}.", "voice_profile": "en-US-JennyNeural", "source": "+6531234567"}


class RoundRobin(httpx.AsyncBaseTransport):
    """Sends each request to the next receiver, and counts the changes."""

    def __init__(self, *transports: httpx.AsyncBaseTransport) -> None:
        self._transports = transports
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        return await self._transports[self.sent % len(self._transports)].handle_async_request(request)


@asynccontextmanager
async def operator(store: Store, url: str) -> AsyncGenerator[httpx.AsyncClient]:
    """An operator of two receivers, each with a connection of its own to the store."""
    async with open_store(url) as other:
        behind = RoundRobin(*(httpx.ASGITransport(receiver(each)) for each in (store, other)))
        async with httpx.AsyncClient(transport=behind, base_url=HOST, headers=FROM_HERE) as client:
            assert (await sign_in(client, OPERATORS)).status_code == 303
            yield client


@pytest.mark.usefixtures("work_here")
@pytest.mark.parametrize("store_url", ["sqlite", "redis"], indirect=True)
async def test_a_campaign_goes_from_the_upload_to_its_report_over_both(store: Store, store_url: str) -> None:
    queue = CallQueue(store)
    async with operator(store, store_url) as client:
        form = dict(Form((await client.get("/ui/campaign")).text).hidden)
        files = {"file": ("may.csv", PEOPLE.encode()), "prices": ("prices.csv", PRICES)}
        shown = await client.post("/ui/campaign", data={**form, "do": "look"}, files=files)
        for do in ("preview", "try"):
            kept = {name: value for name, value in Form(shown.text).hidden if value}
            assert {"upload", "price_list"} <= kept.keys(), shown.text
            data = {**kept, **WORDS, "number": "+6581111111", "do": do}
            shown = await client.post("/ui/campaign", data=data)
            assert (shown.status_code, "SGD 10.00" in shown.text) == (200, True), shown.text
        (trial,) = await queue.find()
        assert (trial.destination, trial.batch_id) == ("+6581111111", "may-trial")
        data = {**dict(Form(shown.text).hidden), **WORDS, "do": "start"}
        done = await client.post("/ui/campaign", data=data)
        assert (done.status_code, done.headers["location"].partition("?")[0]) == (303, "../ui/batches/may")
        assert len(await queue.find(batch_id="may", limit=1000)) == 200
        report = await client.get("/ui/export/csv?queue=default&batch=may")
        assert report.text.count("Ana") == 200


@KINDS
async def test_an_upload_comes_back_as_it_was_from_every_receiver(store: Store, store_url: str) -> None:
    content = os.urandom(3_000_000)
    kept = await Uploads(store).keep(content, name="people.xlsx", owner="Li")
    other = Uploads(store)
    assert await other.find(kept.id, owner="Mary") is None
    assert await other.find(kept.id, owner="Li") == kept
    assert await other.content(kept) == content
    columns = text_records(store, FOUND).within(kept.id)
    await columns.put({"sheet": "destination"})
    await other.clear()
    assert await columns.page() == []
    assert (await other.find(kept.id, owner="Li"), await other.content(kept)) == (None, None)
    assert not (await store.records({PIECES: [(kept.id, "0000")]}, now=store.clock.now()))[PIECES]


async def test_uploads_end_after_an_hour_and_the_oldest_go_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "MOST_STORED", 3000)
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        files = Uploads(store)
        kept = []
        for place in range(3):
            kept.append(await files.keep(os.urandom(1000), name=f"{place}.csv", owner="Li"))
            clock.jump(timedelta(seconds=1))
        found = [await files.find(each.id, owner="Li") for each in kept]
        assert found == [None, *kept[1:]]
        assert await files.content(kept[0]) is None
        clock.jump(KEPT_FOR)
        assert [await files.find(each.id, owner="Li") for each in kept] == [None, None, None]
        assert await files.content(kept[2]) is None


async def test_an_upload_that_is_erased_while_it_is_stored_is_not_kept(
    memory: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_PIECE", 1000)
    files = Uploads(memory)
    put = memory.write
    steps = 0

    async def erased_meanwhile(*given: object, **more: object) -> object:
        nonlocal steps
        steps += 1
        if steps == 3:
            monkeypatch.undo()
            monkeypatch.setattr(uploads, "_PIECE", 1000)
            await Uploads(memory).clear()
        return await put(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(memory, "write", erased_meanwhile)
    kept = await files.keep(os.urandom(3000), name="people.csv", owner="Li")
    assert await files.find(kept.id, owner="Li") is None
    places = [(kept.id, f"{place:04}") for place in range(9)]
    assert not (await memory.records({PIECES: places}, now=memory.clock.now()))[PIECES]
