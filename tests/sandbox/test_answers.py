"""The sandbox takes and refuses calls as the service does, faults to order happen for real, and its ledger is true."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

import anyio
import httpx
import pytest

from tests.docs.pages import DOCS, ROOT
from tests.sandbox.calling import ACCOUNT, ANA, BEN, KEY, PATH, SOURCE, Caller, body, call, calling, say
from voiceflow_worker.model.flows.bodies import write_valid_until
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.account import SPEECH_PROFILES

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def running(anyio_backend: str) -> AsyncIterator[Caller]:
    """One sandbox as it comes for all these tests: starting and stopping one takes longer than most."""
    async with calling(Sandbox()) as caller:
        yield caller


@pytest.fixture
async def caller(running: Caller) -> Caller:
    """That sandbox, as if begun anew."""
    await running.order("reset", {})
    return running


async def rang(caller: Caller) -> list[bool]:
    return [entry["rang"] for entry in await caller.told()]


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_a_call_is_accepted_and_rings_and_again_with_the_same_id(caller: Caller) -> None:
    until = write_valid_until(datetime.now(UTC) + timedelta(minutes=2))
    before = time.time()
    answer = await caller.place(validUntil=until, clientRequestId="default.01J.1", clientBatchId="b1")
    after = time.time()
    (entry,), told = await caller.told(), answer.json()
    assert (answer.status_code, told) == (
        200,
        {
            "sessionId": told["sessionId"],
            "sessionStatus": "CREATED",
            "callFlowRequestId": told["callFlowRequestId"],
            "statusCode": 1,
            "statusMessage": "Created",
            "validUntil": until,
        },
    )
    assert abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - before) < 5
    assert before <= datetime.fromisoformat(entry["at"]).timestamp() <= after
    assert before <= entry["at_seconds"] <= after
    expected = {
        "destination": ANA, "client_request_id": "default.01J.1", "session_id": told["sessionId"], "rang": True,
        "answered_with": "200 CREATED",
    }  # fmt: skip
    assert {key: entry[key] for key in expected} == expected
    again = (await caller.place(clientRequestId="default.01J.1")).json()
    assert again["sessionId"] != told["sessionId"]
    assert "validUntil" not in again
    assert await rang(caller) == [True, True]


SPOKEN = {"action": "say", "params": {"voiceProfile": "en-IE-EmilyNeural"}}
REFUSED: list[tuple[Any, int, int, str]] = [
    (b"{,}", 400, -1001, "Invalid JSON request body"),
    (body(clientBatchId="b" * 3_000_000), 400, -1001, "Invalid JSON request body"),
    (
        {"callflow": [{"action": "dance"}]},
        400,
        -1007,
        "$.callflow[0].action should be one of: say,playFile,sayAndCapture",
    ),
    (
        {"callflow": [call(), SPOKEN]},
        400,
        -1009,
        "Invalid call flow entry provided. $.callflow[1].params.text: is missing but it is required",
    ),
    (body([ANA, BEN]), 400, -1011, "Multiple destination phone numbers found in the request"),
    ({"callflow": [say()]}, 422, -1013, "Invalid Callflow : First action should be a MakeCall action"),
    (
        body(validUntil="2020-01-01T00:00:00.000Z"),
        422,
        -1015,
        "The validity period of the call flow request has expired",
    ),
    (body("nobody"), 400, -1017, "Invalid MSISDN format in Destination"),
]


async def test_a_call_is_refused_as_the_service_does_and_nobody_is_called(caller: Caller) -> None:
    for given, status, code, message in REFUSED:
        answer = await caller.post(given)
        told = answer.json()
        UUID(told.pop("callFlowRequestId"))
        refused = {"sessionStatus": "NOT_CREATED", "statusCode": code, "statusMessage": message}
        assert (answer.status_code, told) == (status, refused)
        *_, entry = await caller.told()
        found = (entry["rang"], entry["session_id"], entry["http_status"], entry["answered_with"])
        assert found == (False, None, status, f"{status} NOT_CREATED ({code})")


async def test_only_the_key_the_sub_account_the_source_and_the_voice_of_the_account_are_taken(caller: Caller) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic a2V5"}):
        answer = await caller.post(body(), headers=headers)
        refused = (401, "Authentication header not found or token invalid")
        assert (answer.status_code, answer.json()["statusMessage"]) == refused
    assert set(await rang(caller)) == {False}
    async with calling(Sandbox(api_key="key-1", sub_accounts=["acme"])) as strict:
        for key, status in (
            ("Bearer key-1", 200),
            ("bearer key-1", 200),
            ("Bearer key-2", 401),
            ("Bearer key-11", 401),
        ):
            assert (await strict.post(body(), headers={"Authorization": key})).status_code == status
        answer = await strict.post(body(), path=PATH.replace("acme", "a%20b"))
        assert (answer.status_code, answer.json()["statusMessage"]) == (404, "SubAccount not found by Id : a b")
    accounts: list[tuple[dict[str, Any], str | None, int]] = [
        ({"numbers": ["6531230000"]}, None, -1014),
        ({"numbers": [SOURCE.removeprefix("+")]}, None, 1),
        ({"numbers": [SOURCE]}, "+6531230000", -1014),
        ({"voices": ["en-IE-EmilyNeural"]}, None, -1002),
    ]
    for account, second, code in accounts:
        given = body()
        if second is not None:
            given["callflow"].insert(1, {"action": "makeCall", "params": {"source": second, "destination": BEN}})
        async with calling(Sandbox(**account)) as one:
            answer = await one.post(given)
        assert (answer.status_code, answer.json()["statusCode"]) == (200 if code == 1 else 422, code)


async def test_a_clock_that_is_off_judges_validity_and_writes_the_date() -> None:
    until = write_valid_until(datetime.now(UTC) + timedelta(minutes=10))
    async with calling(Sandbox(clock_offset=timedelta(hours=1))) as caller:
        answer = await caller.place(validUntil=until)
        other = await caller.client.get(f"{caller.url}/_sandbox/calls")
        (entry,) = await caller.told()
    assert answer.json()["statusCode"] == -1015
    for given in (answer, other):
        ahead = parsedate_to_datetime(given.headers["Date"]) - datetime.now(UTC)
        assert timedelta(minutes=59) < ahead < timedelta(minutes=61)
    assert abs(entry["at_seconds"] - time.time()) < 60


# -- the rest of the account -------------------------------------------------------------------------------------------


async def test_a_webhook_that_makes_no_sense_is_refused(caller: Caller) -> None:
    url = "http://127.0.0.1:9/"
    wrong: list[object] = [
        [],
        {"type": "SMS", "url": url},
        {"type": "VSS"},
        {"type": "VSS", "url": "ftp://127.0.0.1/"},
        {"type": "VSS", "url": url, "enabled": "yes"},
        {"type": "VSS", "url": url, "httpAuthHeader": 1},
    ]
    for given in wrong:
        answer = await caller.post(given, path=f"{ACCOUNT}/webhooks", headers=KEY)
        assert (answer.status_code, answer.json()["statusCode"]) == (422, "1001")
        assert set(answer.json()) == {"errorId", "statusCode", "statusMessage", "timestamp"}


def test_the_account_has_every_voice_of_our_pages_and_one_for_each_language_of_our_own_sentences() -> None:
    voices = {profile["speechProfileCode"] for profile in SPEECH_PROFILES}
    texts = [path.read_text(encoding="utf-8") for path in (*DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.*"))]
    named = {voice for text in texts for voice in re.findall(r"\b[a-z]{2,3}-[A-Z]{2}-[A-Za-z]+(?:Neural|RUS)\b", text)}
    assert len(named) > 5
    assert named - voices == set(), "a campaign as it is printed can be tried in the sandbox"


# -- faults to order ---------------------------------------------------------------------------------------------------


async def test_a_connection_is_reset_closed_or_cut_before_or_after_the_call_is_placed(caller: Caller) -> None:
    for place, rings in ((None, True), ("after", True), ("before", False)):
        await caller.fault("reset", next=1, **({} if place is None else {"place": place}))
        with pytest.raises(ConnectionResetError):
            await caller.bytes_of_answer()
        *_, entry = await caller.told()
        assert (entry["rang"], entry["answered_with"], entry["http_status"]) == (rings, "reset", None)
    await caller.fault("close", next=1)
    assert await caller.bytes_of_answer() == b""
    await caller.fault("cut", next=1)
    sent = await caller.bytes_of_answer()
    assert (sent.startswith(b"HTTP/1.1 200 OK\r\n"), b"\r\n\r\n" in sent, sent.endswith(b"}")) == (True, True, False)
    assert await rang(caller) == [True, True, False, True, True]
    assert (await caller.place()).status_code == 200


async def test_a_sandbox_with_late_answers_stops_at_once() -> None:
    began = time.monotonic()
    async with anyio.create_task_group() as tasks, calling(Sandbox()) as caller:
        await caller.fault("delay", next=1, seconds=60)

        async def delayed() -> None:
            assert b"CREATED" in await caller.bytes_of_answer()

        tasks.start_soon(delayed)
        await caller.sandbox.ledger.reached(1)
    assert time.monotonic() - began < 10


async def test_an_answer_may_be_junk_or_have_any_status_in_the_words_of_the_service(caller: Caller) -> None:
    await caller.fault("junk", next=1)
    answer = await caller.place()
    assert (answer.status_code, answer.content.startswith(b"<html>")) == (200, True)
    assert await rang(caller) == [True]
    for status in (200, 301, 400, 429, 503, 599):
        await caller.fault("status", next=1, status=status)
        assert (await caller.place()).status_code == status
        *_, entry = await caller.told()
        assert (entry["rang"], entry["http_status"]) == (False, status)
    await caller.fault("status", next=1, status=503, place="after", retry_after=7)
    answer, (*_, entry) = await caller.place(), await caller.told()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert (entry["rang"], entry["answered_with"], entry["session_id"] is None) == (True, "503", False)
    for retry_after, header in ((2, "2"), (0.5, "0.5"), (None, None)):
        more = {} if retry_after is None else {"retry_after": retry_after}
        await caller.fault("status", next=1, status=429, **more)
        answer = await caller.place()
        told = answer.json()
        UUID(told.pop("callFlowRequestId"))
        assert (answer.status_code, answer.headers.get("Retry-After")) == (429, header)
        assert told == {"sessionStatus": "NOT_CREATED", "statusCode": 429, "statusMessage": "Too Many Requests"}


async def test_a_delay_is_before_or_after_the_call_is_placed_also_if_its_client_has_left() -> None:
    async with calling(Sandbox()) as caller:
        for place, late in (("before", True), ("after", False)):
            await caller.fault("delay", next=1, seconds=0.3, place=place)
            began = time.time()
            assert (await caller.place()).json()["sessionStatus"] == "CREATED"
            assert time.time() - began >= 0.3
            *_, entry = await caller.told()
            assert (entry["at_seconds"] - began >= 0.3) is late
        await caller.fault("delay", next=1, seconds=0.2, place="before")
        with pytest.raises(httpx.ReadTimeout):
            await caller.post(body(), within=0.05)
        with anyio.fail_after(10):
            await caller.sandbox.ledger.reached(3)
        assert await rang(caller) == [True] * 3


async def test_faults_are_used_up_in_their_order_for_their_destinations_and_forgotten_by_a_reset(
    caller: Caller,
) -> None:
    async def statuses(*numbers: str) -> list[int]:
        return [(await caller.place(number)).status_code for number in numbers]

    await caller.fault("status", destination=ANA.removeprefix("+"), times=2, status=429)
    assert await statuses(BEN, ANA, BEN, ANA, ANA) == [200, 429, 200, 429, 200]
    await caller.fault("status", destination=ANA, status=429)
    await caller.fault("status", destination=BEN, status=503, times=None)
    assert await statuses(ANA, ANA, BEN, BEN, BEN) == [429, 200, 503, 503, 503]
    await caller.order("reset", {})
    assert await statuses(BEN) == [200]
    await caller.order("faults", [{"next": next_, "fault": "status", "status": s} for next_, s in ((2, 429), (1, 503))])
    assert await statuses(ANA, ANA, ANA, ANA) == [429, 429, 503, 200]


async def test_an_order_that_makes_no_sense_is_refused_with_a_reason(caller: Caller) -> None:
    for given, sentence in (
        ({"fault": "explode"}, "fault:"),
        ({"fault": "reset", "second": 1}, "second: Extra inputs are not permitted"),
        ({"fault": "delay"}, "'delay' needs 'seconds'"),
        ({"fault": "status"}, "also needs the field 'status'"),
        ({"fault": "close", "next": 1, "destination": ANA}, "'next' is the number of POSTs to any destination"),
        ({"fault": "close", "next": 1, "times": 2}, "omit 'destination' and 'times'"),
    ):
        assert sentence in (await caller.order("faults", given, status=422))["error"]
    assert (await caller.client.post(f"{caller.url}/_sandbox/script", content=b"{")).status_code == 400
    assert (await caller.place()).status_code == 200
