"""Faults to order happen for real: the client sees them on its socket, the ledger tells whether a phone rang."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import anyio
import httpx
import pytest

from tests.sandbox.calling import ANA, BEN, Caller, body, calling
from voiceflow_worker.sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def rang(caller: Caller) -> list[bool]:
    return [entry["rang"] for entry in await caller.ledger()]


@pytest.mark.parametrize(
    ("place", "rings"), [(None, [True]), ("after", [True]), ("before", [False]), ("arrival", [False])]
)
async def test_a_reset_reaches_the_client(caller: Caller, place: str | None, rings: list[bool]) -> None:
    await caller.fault("reset", next=1, **({} if place is None else {"place": place}))
    with pytest.raises(ConnectionResetError):
        await caller.bytes_of_answer()
    assert await rang(caller) == rings
    (entry,) = await caller.ledger()
    assert (entry["answered_with"], entry["http_status"]) == ("reset", None)
    assert (await caller.place()).status_code == 200


async def test_a_connection_closed_without_an_answer_ends_in_order(caller: Caller) -> None:
    await caller.fault("close", next=1)
    assert await caller.bytes_of_answer() == b""
    assert await rang(caller) == [True]


@pytest.mark.parametrize("within", ["headers", "body", None])
async def test_an_answer_is_cut_or_reset_in_the_middle(caller: Caller, within: str | None) -> None:
    await caller.fault("cut", next=1, **({} if within is None else {"within": within}))
    sent = await caller.bytes_of_answer()
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (b"\r\n\r\n" in sent) is (within != "headers")
    assert not sent.endswith(b"}")
    await caller.fault("reset", next=1, within=within or "body")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await caller.place()
    assert await rang(caller) == [True, True]


@pytest.mark.parametrize("within", ["nothing", "headers", "body"])
async def test_a_stalled_answer_keeps_the_client_waiting(caller: Caller, within: str) -> None:
    await caller.fault("stall", next=1, within=within)
    with pytest.raises(httpx.ReadTimeout):
        await caller.post(body(), within=0.3)
    assert await rang(caller) == [True]


async def test_a_stall_ends_with_a_reset_when_it_has_an_end(caller: Caller) -> None:
    await caller.fault("stall", next=1, seconds=0.1)
    with pytest.raises(ConnectionResetError):
        await caller.bytes_of_answer()


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

        tasks.start_soon(stalled)
        while len(await caller.ledger()) < 1:
            await anyio.lowlevel.checkpoint()
        tasks.start_soon(delayed)
        while len(await caller.ledger()) < 2:
            await anyio.lowlevel.checkpoint()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("more", "content"),
    [({}, b"<html>"), ({"body": "half a {"}, b"half a {"), ({"body": ""}, b""), ({"body": []}, b"[]")],
)
async def test_junk_comes_with_200(caller: Caller, more: dict[str, Any], content: bytes) -> None:
    await caller.fault("junk", next=1, **more)
    answer = await caller.place()
    assert answer.status_code == 200
    assert answer.content.startswith(content)
    assert b"CREATED" not in answer.content
    assert await rang(caller) == [True]


async def test_raw_junk_is_not_http(caller: Caller) -> None:
    await caller.fault("junk", next=2, raw=True)
    assert not (await caller.bytes_of_answer()).startswith(b"HTTP")
    with pytest.raises(httpx.RemoteProtocolError):
        await caller.place()


async def test_a_surplus_answer_is_read_by_the_next_post_of_its_connection(caller: Caller) -> None:
    await caller.fault("surplus", next=1, seconds=0, retry_after=3)
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
        one = Caller(caller.url, client)
        assert (await one.place()).json()["sessionStatus"] == "CREATED"
        surplus = await one.place(BEN)
    assert (surplus.status_code, surplus.headers["retry-after"]) == (429, "3")
    assert await rang(caller) == [True, True]
    assert [entry["http_status"] for entry in await caller.ledger()] == [200, 200]


@pytest.mark.parametrize("status", [None, 400, 401, 403, 404, 410, 426])
async def test_an_error_of_the_platform_has_nothing_of_a_call(caller: Caller, status: int | None) -> None:
    await caller.fault(
        "platform", next=1, code=1304, message="Not here", **({} if status is None else {"status": status})
    )
    answer = await caller.place()
    assert answer.status_code == (status or 403)
    said = answer.json()
    assert set(said) == {"code", "message", "errorId", "timestamp"}
    assert (said["code"], said["message"]) == (1304, "Not here")
    assert await rang(caller) == [False]
    assert (await caller.place()).status_code == 200


@pytest.mark.parametrize("status", [200, 201, 400, 418, 429, 503, 599])
async def test_any_status_can_be_ordered_and_nobody_is_called(caller: Caller, status: int) -> None:
    await caller.fault("status", next=1, status=status)
    answer = await caller.place()
    assert answer.status_code == status
    assert await rang(caller) == [False]
    (entry,) = await caller.ledger()
    assert entry["http_status"] == status


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_says_where_to(caller: Caller, status: int) -> None:
    await caller.fault("status", next=1, status=status, location="http://127.0.0.1:9/")
    answer = await caller.place()
    assert (answer.status_code, answer.headers["Location"]) == (status, "http://127.0.0.1:9/")


async def test_a_status_may_come_after_the_call_was_placed(caller: Caller) -> None:
    await caller.fault("status", next=1, status=503, place="after", retry_after=7)
    answer = await caller.place()
    (entry,) = await caller.ledger()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert (entry["rang"], entry["answered_with"]) == (True, "503")
    assert entry["session_id"] is not None


async def test_a_status_in_the_services_words(caller: Caller) -> None:
    await caller.fault("status", next=1, status=200, code=-9999, message="An unknown error has occurred")
    unknown = await caller.place()
    await caller.fault("status", next=1, status=500)
    internal = await caller.place()
    await caller.fault("status", next=1, status=200, place="after", body={"sessionStatus": "CREATED"})
    nameless = await caller.place()
    told = unknown.json()
    UUID(told.pop("callFlowRequestId"))
    assert told == {
        "sessionStatus": "NOT_CREATED",
        "statusCode": -9999,
        "statusMessage": "An unknown error has occurred",
    }
    assert internal.json()["statusMessage"] == "Internal server error"
    assert nameless.json() == {"sessionStatus": "CREATED"}


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [(2, "2"), (0.5, "0.5"), ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"), (None, None)],
)
async def test_a_throttle_is_429(caller: Caller, retry_after: object, header: str | None) -> None:
    await caller.fault("throttle", next=1, **({} if retry_after is None else {"retry_after": retry_after}))
    answer = await caller.place()
    assert (answer.status_code, answer.headers.get("Retry-After")) == (429, header)
    assert await rang(caller) == [False]


@pytest.mark.parametrize(("place", "late"), [("before", True), ("after", False), ("arrival", True)])
async def test_a_delay_is_before_or_after_the_call_is_placed(caller: Caller, place: str, late: bool) -> None:
    await caller.fault("delay", next=1, seconds=0.3, place=place)
    began = time.time()
    answer = await caller.place()
    ended = time.time()
    (entry,) = await caller.ledger()
    assert answer.json()["sessionStatus"] == "CREATED"
    assert ended - began >= 0.3
    assert (entry["at_seconds"] - began >= 0.3) is late


async def test_a_call_goes_on_when_its_client_has_left() -> None:
    sandbox = Sandbox()
    async with calling(sandbox) as caller:
        await caller.fault("delay", next=1, seconds=0.2, place="before")
        with pytest.raises(httpx.ReadTimeout):
            await caller.post(body(), within=0.05)
        with anyio.fail_after(10):
            await sandbox.ledger.reached(1)
        assert await rang(caller) == [True]


async def test_a_fault_for_a_destination_spares_the_others(caller: Caller) -> None:
    await caller.fault("throttle", destination=ANA.removeprefix("+"), times=2)
    statuses = [(await caller.place(number)).status_code for number in (BEN, ANA, BEN, ANA, ANA)]
    assert statuses == [200, 429, 200, 429, 200]


async def test_a_fault_for_a_destination_happens_once_unless_ordered_otherwise(caller: Caller) -> None:
    await caller.fault("throttle", destination=ANA)
    await caller.fault("status", destination=BEN, status=503, times=None)
    statuses = [(await caller.place(number)).status_code for number in (ANA, ANA, BEN, BEN, BEN)]
    assert statuses == [429, 200, 503, 503, 503]


async def test_faults_are_used_up_in_their_order_and_forgotten_by_a_reset(caller: Caller) -> None:
    await caller.order("faults", [{"next": 2, "fault": "throttle"}, {"next": 1, "fault": "status", "status": 503}])
    statuses = [(await caller.place()).status_code for _ in range(4)]
    await caller.fault("throttle", next=5)
    await caller.order("reset", {})
    statuses.append((await caller.place()).status_code)
    assert statuses == [429, 429, 503, 200, 200]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"fault": "explode"}, "fault:"),
        ({"fault": "reset", "seconds": 1}, "the fault 'reset' takes within, not seconds"),
        ({"fault": "delay"}, "'delay' needs 'seconds'"),
        ({"fault": "status"}, "also needs the field 'status'"),
        ({"fault": "close", "next": 1, "destination": ANA}, "give 'destination' or 'next', not both"),
        ({"fault": "close", "destination": ANA, "place": "arrival"}, "before the body is read"),
        ({"fault": "platform", "status": 500}, "410"),
        ({"fault": "reset", "until": "VCA"}, ""),
        ([], None),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_with_a_reason(
    caller: Caller, given: object, sentence: str | None
) -> None:
    answer = await caller.client.post(f"{caller.url}/_sandbox/faults", json=given)
    assert answer.status_code == (200 if sentence is None else 422)
    assert sentence is None or sentence in answer.json()["error"]
    assert (await caller.place()).status_code == 200


async def test_orders_that_are_not_json_are_refused(caller: Caller) -> None:
    answer = await caller.client.post(f"{caller.url}/_sandbox/script", content=b"{")
    assert answer.status_code == 400
