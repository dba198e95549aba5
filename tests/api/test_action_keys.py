"""The Idempotency-Key of actions: one key is one request, and is kept with what the action does."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import timedelta
from itertools import count
from typing import Any

import anyio
import httpx
import pytest

from tests.actions.work import ACTIONS as CONFIRMED
from tests.actions.work import ANA, CALL, busy, waiting
from tests.api.clients import Client, program
from tests.api.steered import doubtful, held
from tests.contract.samples import ManualClock
from tests.support.faulty_store import Dies, FaultyStore, StoreCall
from tests.support.stores import EVERY
from voiceflow_worker import CallQueue, Store, SuppressionList, open_store
from voiceflow_worker.core.audit import AUDIT, entries_on, read_page
from voiceflow_worker.core.idempotency import NAMED_STARTS
from voiceflow_worker.core.ports.store import Page

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> AsyncGenerator[Store]:
    async with open_store("memory://", clock=ManualClock()) as opened:
        yield opened


ACTIONS: Mapping[str, tuple[Callable[[Store], Awaitable[str]], tuple[str, str, Mapping[str, Any] | None]]] = {
    **{name: (each.prepare, each.ordered) for name, each in CONFIRMED.items() if each.ordered[0]},
    "resume a queue": (held, CONFIRMED["resume a queue"].ordered),
    "suppress": (waiting, CONFIRMED["suppress"].ordered),
    "resolve": (doubtful, ("POST", f"{CALL}/resolve", {"placed": True, "note": "seen"})),
}
EACH = pytest.mark.parametrize("name", ACTIONS)
DAILY = {"hold", "redial", "release", "forget", "stop"}
"""One action of each way to store its result."""


async def order(client: Client, name: str, subject: str, key: str = "k", **fields: object) -> httpx.Response:
    method, path, body = ACTIONS[name][1]
    sent = None if body is None else {**body, **fields}
    return await client.request(method, path.format(call=subject), json=sent, headers={"Idempotency-Key": key})


@EACH
async def test_one_key_is_one_request_that_is_carried_out_once_and_keeps_nothing_of_a_person(
    store: Store, name: str
) -> None:
    """Another body under it, or another action, is refused, and nothing is done.

    What is kept says nothing of a person, also if the request changes nothing, and so has no entry in the audit log
    that an erasure would find.
    """
    subject = await ACTIONS[name][0](store)
    async with program(store) as client:
        first = await order(client, name, subject)
        assert first.status_code == 200, first.text
        logged = await read_page(store)
        again = await order(client, name, subject)
        assert (again.status_code, again.json()) == (200, first.json())
        assert [each.key for each in await entries_on(store) if each.key] == ["k"]
        entries = (await client.get("/v1/audit")).json()["entries"]
        assert [each["idempotency_key"] for each in entries if each["idempotency_key"]] == ["k"]
        others = [await client.post("/v1/queues/default/hold", json={"for": "9m"}, headers={"Idempotency-Key": "k"})]
        if ACTIONS[name][1][2] is not None:
            changed = {"rate": 7} if name == "rate" else {"by": "Bo"} if name == "acknowledge" else {"note": "another"}
            others.append(await order(client, name, subject, "k", **changed))
        for other in others:
            assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused"), other.text
            assert "Nothing was done" in other.json()["detail"]
        assert await read_page(store) == logged
        assert (await order(client, name, subject)).json() == first.json()
        await order(client, name, subject, "two")
    records = (await store.records({NAMED_STARTS: Page()}, now=store.clock.now()))[NAMED_STARTS]
    kept = [json.loads(each.value)["result"] for each in records]
    assert kept
    assert ANA.lstrip("+") not in json.dumps(kept)
    assert not subject or subject not in json.dumps(kept)


async def test_what_a_note_says_spends_no_key(store: Store) -> None:
    call = await busy(store)
    async with program(store) as client:
        noted = await order(client, "redial", call, "one", note="(Idempotency-Key other)")
        assert "(Idempotency-Key other)" in noted.json()["notes"][-1]["text"]
        assert (await client.post(f"/v1/calls/{call}/cancel")).status_code == 200
        assert (await order(client, "redial", call, "other")).json()["state"] == "queued"


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize(
    "name", [name if name in DAILY else pytest.param(name, marks=pytest.mark.slow) for name in ACTIONS]
)
async def test_a_request_that_was_cut_anywhere_is_carried_out_once(
    name: str, backend: str, fresh_url: Callable[[str], str]
) -> None:
    """The server dies before each write in turn; another server gets the same request again.

    The entry in the audit log has no result as long as the request is not carried out whole.
    """
    prepare = ACTIONS[name][0]
    async with open_store(fresh_url(backend), clock=ManualClock()) as store:
        subject = await prepare(store)
        async with program(store) as client:
            whole = (await order(client, name, subject)).json()
        entries = len([entry for entry in await read_page(store) if entry.action != "start"])
    for place in count(1):
        async with open_store(fresh_url(backend), clock=ManualClock()) as store:
            subject = await prepare(store)
            process = Dies(place)
            async with program(process.over(store)) as client:
                cut = await order(client, name, subject)
            keyed = [entry for entry in await read_page(store) if entry.key]
            assert cut.is_success or all(entry.is_unknown for entry in keyed), "recognised is not done"
            async with program(store) as client:
                again = await order(client, name, subject)
                if name == "release" and again.status_code == 409:
                    assert "were released before" in again.text
                    continue
                assert again.status_code == 200, (place, again.text)
                assert again.json().keys() - {"judged_post"} == whole.keys() - {"judged_post"}
                assert (await order(client, name, subject)).json() == again.json()
            logged = [entry for entry in await read_page(store) if entry.action != "start"]
            assert len(logged) == entries, "what goes on has the entry that it had"
            (own,) = [entry for entry in logged if entry.key]
            assert not own.is_unknown, (place, own)
        if not process.is_dead:
            return


@pytest.mark.parametrize("name", ["redial", "resume", "hold a queue", "cancel a call"])
async def test_of_two_servers_with_one_request_at_once_one_carries_it_out(store: Store, name: str) -> None:
    subject = await ACTIONS[name][0](store)
    begun, goes_on, first, done = anyio.Event(), anyio.Event(), list[httpx.Response](), httpx.Response(500)

    async def stands_still(call: StoreCall) -> None:
        if call.name == "write" and not begun.is_set():
            begun.set()
            await goes_on.wait()

    async with program(FaultyStore(store, before=stands_still)) as slow, program(store) as quick:
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                first.append(await order(slow, name, subject))

            group.start_soon(ask)
            await begun.wait()
            done = await order(quick, name, subject)
            goes_on.set()
        assert done.status_code == 200, done.text
        # What somebody has done meanwhile may be done already, with the same result.
        assert (first[0].status_code == 409) or (first[0].json() == done.json()), first[0].text
        assert (await order(slow, name, subject)).json() == done.json()
    assert [each.key for each in await entries_on(store)].count("k") == 1


NEWER: Mapping[str, tuple[Callable[[CallQueue], Awaitable[object]], Mapping[str, object]]] = {
    "resume a queue": (lambda queue: queue.hold(reason="the text is wrong"), {"state": "held"}),
    "hold a queue": (CallQueue.resume, {"state": "open"}),
    "rate": (lambda queue: queue.set_rate(1), {"rate": 1.0}),
    "suppress": (lambda queue: SuppressionList(queue.store).remove(ANA), {"status": 409}),
}
"""What somebody orders after a request whose answer was lost, and some of the answer when it comes again."""


@pytest.mark.parametrize("name", NEWER)
async def test_a_request_whose_answer_was_lost_changes_nothing_that_was_ordered_later(store: Store, name: str) -> None:
    await ACTIONS[name][0](store)
    clock, newer, call = store.clock, NEWER[name], CallQueue(store)
    assert isinstance(clock, ManualClock)

    async def lost(call: StoreCall) -> None:
        if call.name == "write":
            raise ConnectionError

    async with program(FaultyStore(store, after=lost)) as client:
        assert (await order(client, name, "")).status_code == 500
    clock.advance(timedelta(seconds=1))
    await newer[0](call)
    clock.advance(timedelta(seconds=1))
    async with program(store) as client:
        again = await order(client, name, "")
        assert again.status_code == newer[1].get("status", 200)
        assert again.json().items() >= newer[1].items(), "as it is now"
    assert ANA not in await SuppressionList(store).find(ANA)


async def test_the_key_of_an_erasure_says_nothing_of_the_person(store: Store) -> None:
    await waiting(store)
    async with program(store) as client:
        for _ in range(2):
            assert (await order(client, "forget", "", f"erase {ANA}")).status_code == 200
    assert "87654321" not in str(await store.records({AUDIT: Page(limit=500)}, now=store.clock.now()))
    (entry,) = [each for each in await read_page(store) if each.action == "forget"]
    assert (entry.key, (entry.result or "").split(":")[0]) == ("erase erased", "a person was erased")


async def test_a_refused_request_leaves_its_key_free(store: Store) -> None:
    call = await waiting(store)
    async with program(store) as client:
        assert (await order(client, "redial", call)).status_code == 409
        assert (await client.post(f"/v1/calls/{call}/cancel", headers={"Idempotency-Key": "k"})).status_code == 200


async def test_a_key_goes_with_the_person_who_is_erased(store: Store) -> None:
    call, key = await busy(store), f"redial {ANA}"
    async with program(store) as client:
        assert (await order(client, "redial", call, key)).status_code == 200
        assert (await client.delete(f"/v1/people/{ANA}")).status_code == 200
        text = (await client.get("/v1/audit")).text
    assert ANA not in text
    entry = next(entry for entry in await read_page(store) if entry.action == "redial")
    assert entry.key is None
