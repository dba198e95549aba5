"""The sandbox takes and refuses calls as the service does, and its ledger tells the truth."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.sandbox.calling import ANA, BEN, PATH, SOURCE, Caller, body, calling
from voiceflow_worker.model.flows.rules import write_valid_until
from voiceflow_worker.sandbox import Sandbox

pytestmark = pytest.mark.anyio

CALL = {"action": "makeCall", "params": {"source": SOURCE, "destination": ANA}}
SAY = {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-IE-EmilyNeural"}}


def flow(*actions: object, **more: object) -> dict[str, Any]:
    return {"callflow": list(actions), **more}


async def test_a_call_is_accepted_and_rings(caller: Caller) -> None:
    until = write_valid_until(datetime.now(UTC) + timedelta(minutes=2))
    before = time.time()
    answer = await caller.place(validUntil=until, clientRequestId="default.01J.1", clientBatchId="b1")
    after = time.time()
    (entry,) = await caller.ledger()
    told = answer.json()
    assert answer.status_code == 200
    assert told == {
        "sessionId": told["sessionId"],
        "sessionStatus": "CREATED",
        "callFlowRequestId": told["callFlowRequestId"],
        "statusCode": 1,
        "statusMessage": "Created",
        "validUntil": until,
    }
    assert abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - before) < 5
    assert before <= datetime.fromisoformat(entry["at"]).timestamp() <= after
    assert before <= entry["at_seconds"] <= after
    assert {key: entry[key] for key in ("destination", "client_request_id", "session_id", "rang", "answered_with")} == {
        "destination": ANA,
        "client_request_id": "default.01J.1",
        "session_id": told["sessionId"],
        "rang": True,
        "answered_with": "200 CREATED",
    }


async def test_the_same_client_request_id_twice_places_two_calls(caller: Caller) -> None:
    answers = [(await caller.place(clientRequestId="one")).json() for _ in range(2)]
    assert len({answer["sessionId"] for answer in answers}) == 2
    assert "validUntil" not in answers[0]
    assert [entry["rang"] for entry in await caller.ledger()] == [True, True]


@pytest.mark.parametrize(
    ("given", "status", "code", "message"),
    [
        (b"{,}", 400, -1001, "Invalid JSON request body"),
        (
            flow({"action": "dance"}),
            400,
            -1007,
            "$.callflow[0].action should be one of: say,playFile,sayAndCapture",
        ),
        (
            flow(CALL, {"action": "say", "params": {"voiceProfile": "en-IE-EmilyNeural"}}),
            400,
            -1009,
            "Invalid call flow entry provided. $.callflow[1].params.text: is missing but it is required",
        ),
        (body([ANA, BEN]), 400, -1011, "Multiple destination phone numbers found in the request"),
        (flow(SAY), 422, -1013, "Invalid Callflow : First action should be a MakeCall action"),
        (
            body(validUntil="2020-01-01T00:00:00.000Z"),
            422,
            -1015,
            "The validity period of the call flow request has expired",
        ),
        (body("nobody"), 400, -1017, "Invalid MSISDN format in Destination"),
    ],
)
async def test_a_call_is_refused_as_the_service_does(
    caller: Caller, given: object, status: int, code: int, message: str
) -> None:
    answer = await caller.post(given)
    (entry,) = await caller.ledger()
    told = answer.json()
    UUID(told.pop("callFlowRequestId"))
    assert (answer.status_code, told) == (
        status,
        {"sessionStatus": "NOT_CREATED", "statusCode": code, "statusMessage": message},
    )
    assert entry["rang"] is False
    assert entry["session_id"] is None
    assert (entry["http_status"], entry["code"], entry["answered_with"]) == (
        status,
        code,
        f"{status} NOT_CREATED ({code})",
    )


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic a2V5"}])
async def test_without_a_key_nobody_is_called(caller: Caller, headers: dict[str, str]) -> None:
    answer = await caller.post(body(), headers=headers)
    (entry,) = await caller.ledger()
    assert answer.status_code == 401
    told = answer.json()
    UUID(told.pop("callFlowRequestId"))
    assert told == {
        "sessionStatus": "NOT_CREATED",
        "statusCode": 401,
        "statusMessage": "Authentication header not found or token invalid",
    }
    assert (entry["rang"], entry["destination"], entry["answered_with"]) == (False, ANA, "401 NOT_CREATED")


async def test_only_the_key_that_was_set_is_taken() -> None:
    async with calling(Sandbox(api_key="key-1")) as caller:
        statuses = [
            (await caller.post(body(), headers={"Authorization": given})).status_code
            for given in ("Bearer key-1", "bearer key-1", "Bearer key-2", "Bearer key-11", "Bearer key")
        ]
    assert statuses == [200, 200, 401, 401, 401]


@pytest.mark.parametrize("sub_account", ["other", "ab", "a%20b"])
async def test_a_sub_account_that_does_not_exist_is_not_found(sub_account: str) -> None:
    async with calling(Sandbox(sub_accounts=["acme"])) as caller:
        answer = await caller.post(body(), path=PATH.replace("acme", sub_account))
    assert answer.status_code == 404
    assert answer.json()["statusMessage"] == f"SubAccount not found by Id : {httpx.URL(sub_account).path}"
    assert answer.json()["sessionStatus"] == "NOT_CREATED"


@pytest.mark.parametrize(
    ("account", "second", "code"),
    [
        ({"numbers": ["6531230000"]}, None, -1014),
        ({"numbers": [SOURCE.removeprefix("+")]}, None, 1),
        ({"numbers": [SOURCE]}, "+6531230000", -1014),
        ({"voices": ["en-US-BenjaminRUS"]}, None, -1002),
    ],
)
async def test_a_source_or_a_voice_that_is_not_the_accounts_is_refused(
    account: dict[str, Any], second: str | None, code: int
) -> None:
    given = body()
    if second is not None:
        given["callflow"].insert(1, {"action": "makeCall", "params": {"source": second, "destination": BEN}})
    async with calling(Sandbox(**account)) as caller:
        answer = await caller.post(given)
    assert (answer.status_code, answer.json()["statusCode"]) == (200 if code == 1 else 422, code)


async def test_a_clock_that_is_off_judges_validity_and_writes_the_date() -> None:
    until = write_valid_until(datetime.now(UTC) + timedelta(minutes=10))
    async with calling(Sandbox(clock_offset=timedelta(hours=1))) as caller:
        answer = await caller.place(validUntil=until)
        other = await caller.client.get(f"{caller.url}/_sandbox/calls")
        (entry,) = await caller.ledger()
    assert answer.json()["statusCode"] == -1015
    for given in (answer, other):
        ahead = parsedate_to_datetime(given.headers["Date"]) - datetime.now(UTC)
        assert timedelta(minutes=59) < ahead < timedelta(minutes=61)
    assert abs(entry["at_seconds"] - time.time()) < 60


async def test_the_ledger_keeps_the_order_of_arrival_and_can_be_begun_anew(caller: Caller) -> None:
    for number in (ANA, BEN, ANA):
        await caller.place(number)
    entries = await caller.ledger()
    await caller.order("reset", {})
    assert await caller.ledger() == []
    assert [entry["destination"] for entry in entries] == [ANA, BEN, ANA]
    assert sorted(entry["at"] for entry in entries) == [entry["at"] for entry in entries]


async def test_a_body_longer_than_any_the_service_takes_is_not_json(caller: Caller) -> None:
    answer = await caller.post(body(clientBatchId="b" * 3_000_000))
    assert (answer.status_code, answer.json()["statusCode"]) == (400, -1001)
