"""Two receivers on one store, behind a proxy that sends each request to the next: both have what was uploaded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

import anyio
import httpx
import pytest

from tests.console.clerk import Clerk
from tests.console.signing_in import (
    FROM_HERE,
    HOST,
    OPERATORS,
    Form,
    ended,
    enqueued,
    in_doubt,
    receiver,
    sign_in,
    signed_in,
)
from tests.contract.samples import delete
from tests.contract.suite import ManualClock
from tests.support.flows import number
from voiceflow_worker import CallQueue, Store, open_store
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.service import uploads
from voiceflow_worker.service.uploads import KEPT_FOR, PIECES, Uploads

pytestmark = pytest.mark.anyio
SERVERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "redis")]
SHARED = pytest.mark.parametrize("store_url", ["sqlite", *SERVERS], indirect=True)
PEOPLE = "destination,name\n" + "".join(f"+65{90000000 + place},Ana {place}\n" for place in range(200))
WORDS = {"say": "Hello {{name}}.", "voice_profile": "en-US-JennyNeural", "source": "+6531234567", "any": "yes"}


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


@SHARED
async def test_a_campaign_goes_from_the_upload_to_its_report_over_both(store: Store, store_url: str) -> None:
    queue = CallQueue(store)
    async with operator(store, store_url) as client:
        one = Clerk(client)
        await one.upload(PEOPLE)
        await one.send("check", **WORDS)
        await one.send("try", number="+6581111111")
        (trial,) = await queue.find()
        assert (trial.destination, trial.batch_id) == ("+6581111111", "may-trial")
        assert "200 calls enqueued" in await one.send("start")
        assert len(await queue.find(batch_id="may", limit=1000)) == 200
        report = await client.get("/ui/export/csv?queue=default&batch=may")
        assert report.text.count("Ana") == 200


@SHARED
async def test_two_people_start_one_list_and_each_person_in_it_is_called_once(store: Store, store_url: str) -> None:
    async with two_people(store, store_url) as (mary, li):
        clerks = [Clerk(each) for each in (mary, li)]
        for each in clerks:
            await each.upload(PEOPLE)
            assert "Call 200 people" in await each.send("check", **WORDS)
        starts = [partial(each.post, "start") for each in clerks]
        answers = await at_once(*starts, *starts)  # and each of them clicks twice
        assert [each.status_code for each in answers].count(DONE) >= 1, [each.text for each in answers]
        jobs = await CallQueue(store).find(limit=1000)
        assert len({job.destination for job in jobs}) == len(jobs) == 200
        for start in starts:  # and once more, after the back button
            assert (await start()).status_code in {DONE, REFUSED}
        assert len(await CallQueue(store).find(limit=1000)) == 200


# -- two people at once, and one person twice --------------------------------------------------------------------------


@asynccontextmanager
async def two_people(store: Store, url: str) -> AsyncGenerator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Two operators, each of a receiver of their own, on one store."""
    async with open_store(url) as other, AsyncExitStack() as stack:
        mary, li = [await stack.enter_async_context(signed_in(receiver(each))) for each in (store, other)]
        yield mary, li


async def at_once(*sent: Callable[[], Awaitable[httpx.Response]]) -> list[httpx.Response]:
    """The answers to requests that are sent at the same time; those that did something first."""
    answers = list[httpx.Response]()

    async def send(each: Callable[[], Awaitable[httpx.Response]]) -> None:
        answers.append(await each())

    async with anyio.create_task_group() as tasks:
        for each in sent:
            tasks.start_soon(send, each)
    return sorted(answers, key=lambda answer: answer.status_code)


DONE, REFUSED = 303, 409


@SHARED
async def test_a_double_click_and_the_back_button_do_nothing_twice(store: Store, store_url: str) -> None:
    queue = CallQueue(store)
    busy = await ended(store)
    many = [await ended(store, to=number(place)) for place in (1, 2)]
    _, (doubt,) = await in_doubt(store)
    calls = await enqueued(store, 3, batch="april")
    await enqueued(store, 2, batch="may")
    again = "&".join(f"call={job.id}" for job in many)
    acts = {
        "hold?queue=default&batch=april": {}, "resume?queue=default&batch=april": {}, "hold?queue=default": {},
        "resume?queue=default": {}, f"redial?call={busy.id}": {}, f"redial?{again}": {},
        f"resolve?call={doubt.id}": {"verdict": "placed", "note": "seen"},
        f"cancel-call?call={calls[0].id}": {},
        "cancel-batch?queue=default&batch=april": {},
    }  # fmt: skip
    async with two_people(store, store_url) as (mary, li):
        for address, typed in acts.items():
            way = f"/ui/act/{address.partition('?')[0]}"
            asked = Form((await mary.get(f"/ui/act/{address}")).text)
            cookie = {"cookie": f"voiceflow={mary.cookies['voiceflow']}"}
            data = asked.values(**typed)
            answers = await at_once(*(partial(each.post, way, data=data, headers=cookie) for each in (mary, li)))
            assert answers[0].status_code == DONE, address
            # What was just resumed or cancelled is found so, and done; of several, each click may have done some.
            if not address.startswith(("resume", "cancel-call")) and "&call=" not in address:
                assert answers[1].status_code == REFUSED, address
            entries = len(await entries_on(store, limit=100))
            back = await mary.post(way, data=data)
            assert len(await entries_on(store, limit=100)) == entries, address
            assert back.status_code == REFUSED or address.startswith(("resume", "cancel-call")), address
    found = {job.id: job for job in await queue.find(limit=100)}
    assert [(found[job.id].state, found[job.id].redials) for job in (busy, *many)] == [(JobState.QUEUED, 1)] * 3
    kept = Counter(each.action for each in await entries_on(store, limit=100))
    # Of two calls, each of two clicks may have done one: these are two orders.
    assert (kept["hold"], kept["resolve"]) == (2, 1), kept
    assert kept["redial"] in {2, 3}, kept
    assert kept["cancel"] == 2, kept


@SHARED
async def test_one_cancels_while_another_redials_and_one_of_both_is_done(store: Store, store_url: str) -> None:
    for place in range(4):
        job = await ended(store, to=number(place))
        async with two_people(store, store_url) as (mary, li):
            asked = [
                (each, way, Form((await each.get(f"/ui/act/{way}?{query}")).text).values())
                for each, way, query in (
                    (mary, "redial", f"call={job.id}"), (li, "cancel-batch", "queue=default&batch=march"),
                    (mary, "redial-batch", "queue=default&batch=march&outcome=busy"),
                    (li, "hold", "queue=default&batch=march"),
                )
            ]  # fmt: skip
            first, second = (asked[0], asked[1]) if place < 2 else (asked[2], asked[1])
            orders = [partial(each.post, f"/ui/act/{way}", data=data) for each, way, data in (first, second)]
            answers = await at_once(*(orders if place % 2 else reversed(orders)))
        found = await CallQueue(store).get(job.id)
        gate = (await gates_at(store, "default", ["march"])).get("march")
        is_cancelled = gate is not None and gate.state is GateState.CANCELLED
        assert answers[0].status_code == DONE
        assert is_cancelled or found.state is JobState.QUEUED
        assert not (is_cancelled and found.state is JobState.QUEUED), "nobody is called after the cancellation"
        await delete(store, [found], keep_keys_until=store.clock.now())
        await CallQueue(store).resume(batch_id="march")
        if is_cancelled:
            return


@SHARED
async def test_an_upload_comes_back_as_it_was_from_every_receiver(store: Store, store_url: str) -> None:
    content = os.urandom(3_000_000)
    kept = await Uploads(store).keep(content, name="people.xlsx")
    other = Uploads(store)
    assert await other.find(kept.id) == kept
    assert await other.content(kept) == content
    await other.clear()
    assert (await other.find(kept.id), await other.content(kept)) == (None, None)
    assert not (await store.records({PIECES: [(kept.id, "0000")]}, now=store.clock.now()))[PIECES]


async def test_uploads_end_after_seven_days_and_the_oldest_go_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "MOST_STORED", 3000)
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        files = Uploads(store)
        kept = list[uploads.Upload]()
        for place in range(3):
            kept.append(await files.keep(os.urandom(1000), name=f"{place}.csv"))
            clock.jump(timedelta(seconds=1))
        found = [await files.find(each.id) for each in kept]
        assert found == [None, *kept[1:]]
        assert await files.content(kept[0]) is None
        clock.jump(KEPT_FOR)
        assert [await files.find(each.id) for each in kept] == [None, None, None]
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
    kept = await files.keep(os.urandom(3000), name="people.csv")
    assert await files.find(kept.id) is None
    places = [(kept.id, f"{place:04}") for place in range(9)]
    assert not (await memory.records({PIECES: places}, now=memory.clock.now()))[PIECES]
