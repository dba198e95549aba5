"""Faults to order happen for real: the client sees them on its socket, the ledger tells whether a phone rang."""

from __future__ import annotations

import time
from uuid import UUID

import anyio
import httpx
import pytest

from tests.sandbox.calling import ANA, BEN, Caller, body, calling
from voiceflow_worker.sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def rang(caller: Caller) -> list[bool]:
    return [entry["rang"] for entry in await caller.ledger()]


async def test_a_connection_is_reset_closed_or_cut_before_or_after_the_call_is_placed(caller: Caller) -> None:
    for place, rings in ((None, True), ("after", True), ("before", False)):
        await caller.fault("reset", next=1, **({} if place is None else {"place": place}))
        with pytest.raises(ConnectionResetError):
            await caller.bytes_of_answer()
        *_, entry = await caller.ledger()
        assert (entry["rang"], entry["answered_with"], entry["http_status"]) == (rings, "reset", None)
    await caller.fault("close", next=1)
    assert await caller.bytes_of_answer() == b""
    await caller.fault("cut", next=1)
    sent = await caller.bytes_of_answer()
    assert (sent.startswith(b"HTTP/1.1 200 OK\r\n"), b"\r\n\r\n" in sent, sent.endswith(b"}")) == (True, True, False)
    assert await rang(caller) == [True, True, False, True, True]
    assert (await caller.place()).status_code == 200


async def test_a_stalled_answer_keeps_the_client_waiting_until_its_end(caller: Caller) -> None:
    await caller.fault("stall", next=1)
    with pytest.raises(httpx.ReadTimeout):
        await caller.post(body(), within=0.3)
    await caller.fault("stall", next=1, seconds=0.1)
    with pytest.raises(ConnectionResetError):
        await caller.bytes_of_answer()
    assert await rang(caller) == [True, True]


async def test_a_sandbox_with_stalled_connections_stops_at_once() -> None:
    began = time.monotonic()
    async with anyio.create_task_group() as tasks, calling(Sandbox()) as caller:
        await caller.fault("stall", next=1)
        await caller.fault("delay", next=1, seconds=60)

        async def stalled() -> None:
            with pytest.raises(ConnectionResetError):
                await caller.bytes_of_answer()

        async def delayed() -> None:
            assert b"CREATED" in await caller.bytes_of_answer()

        for place, ask in enumerate((stalled, delayed), start=1):
            tasks.start_soon(ask)
            while len(await caller.ledger()) < place:
                await anyio.lowlevel.checkpoint()
    assert time.monotonic() - began < 10


async def test_an_answer_may_be_junk_or_have_any_status_in_the_words_of_the_service(caller: Caller) -> None:
    for more, content in (({}, b"<html>"), ({"body": "half a {"}, b"half a {"), ({"body": []}, b"[]")):
        await caller.fault("junk", next=1, **more)
        answer = await caller.place()
        assert (answer.status_code, answer.content[:8].startswith(content[:8])) == (200, True)
    assert await rang(caller) == [True] * 3
    for status in (200, 301, 400, 429, 503, 599):
        await caller.fault("status", next=1, status=status)
        assert (await caller.place()).status_code == status
        *_, entry = await caller.ledger()
        assert (entry["rang"], entry["http_status"]) == (False, status)
    await caller.fault("status", next=1, status=503, place="after", retry_after=7)
    answer, (*_, entry) = await caller.place(), await caller.ledger()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert (entry["rang"], entry["answered_with"], entry["session_id"] is None) == (True, "503", False)
    await caller.fault("status", next=1, status=200, code=-9999, message="An unknown error has occurred")
    told = (await caller.place()).json()
    UUID(told.pop("callFlowRequestId"))
    unknown = {"statusCode": -9999, "statusMessage": "An unknown error has occurred"}
    assert told == {"sessionStatus": "NOT_CREATED", **unknown}
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    for retry_after, header in ((2, "2"), (0.5, "0.5"), (date, date), (None, None)):
        await caller.fault("throttle", next=1, **({} if retry_after is None else {"retry_after": retry_after}))
        answer = await caller.place()
        assert (answer.status_code, answer.headers.get("Retry-After")) == (429, header)


async def test_a_delay_is_before_or_after_the_call_is_placed_also_if_its_client_has_left() -> None:
    sandbox = Sandbox()
    async with calling(sandbox) as caller:
        for place, late in (("before", True), ("after", False)):
            await caller.fault("delay", next=1, seconds=0.3, place=place)
            began = time.time()
            assert (await caller.place()).json()["sessionStatus"] == "CREATED"
            assert time.time() - began >= 0.3
            *_, entry = await caller.ledger()
            assert (entry["at_seconds"] - began >= 0.3) is late
        await caller.fault("delay", next=1, seconds=0.2, place="before")
        with pytest.raises(httpx.ReadTimeout):
            await caller.post(body(), within=0.05)
        with anyio.fail_after(10):
            await sandbox.ledger.reached(3)
        assert await rang(caller) == [True] * 3


async def test_faults_are_used_up_in_their_order_for_their_destinations_and_forgotten_by_a_reset(
    caller: Caller,
) -> None:
    async def statuses(*numbers: str) -> list[int]:
        return [(await caller.place(number)).status_code for number in numbers]

    await caller.fault("throttle", destination=ANA.removeprefix("+"), times=2)
    assert await statuses(BEN, ANA, BEN, ANA, ANA) == [200, 429, 200, 429, 200]
    await caller.fault("throttle", destination=ANA)
    await caller.fault("status", destination=BEN, status=503, times=None)
    assert await statuses(ANA, ANA, BEN, BEN, BEN) == [429, 200, 503, 503, 503]
    await caller.order("reset", {})
    assert await statuses(BEN) == [200]
    await caller.order("faults", [{"next": 2, "fault": "throttle"}, {"next": 1, "fault": "status", "status": 503}])
    assert await statuses(ANA, ANA, ANA, ANA) == [429, 429, 503, 200]


async def test_an_order_that_makes_no_sense_is_refused_with_a_reason(caller: Caller) -> None:
    for given, sentence in (
        ({"fault": "explode"}, "fault:"),
        ({"fault": "stall", "status": 500}, "the fault 'stall' takes seconds, not status"),
        ({"fault": "reset", "seconds": 1}, "the fault 'reset' does not take seconds"),
        ({"fault": "delay"}, "'delay' needs 'seconds'"),
        ({"fault": "status"}, "also needs the field 'status'"),
        ({"fault": "close", "next": 1, "destination": ANA}, "give 'destination' or 'next', not both"),
        ({"fault": "close", "next": 1, "times": 2}, "'next' is already the number of POSTs"),
    ):
        answer = await caller.client.post(f"{caller.url}/_sandbox/faults", json=given)
        assert (answer.status_code, sentence in answer.json()["error"]) == (422, True), answer.text
    assert (await caller.client.post(f"{caller.url}/_sandbox/script", content=b"{")).status_code == 400
    assert (await caller.place()).status_code == 200
