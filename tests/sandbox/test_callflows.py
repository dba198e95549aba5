"""The sandbox takes and refuses calls as the service does, and its ledger tells the truth."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

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


REFUSED: list[tuple[Any, int, int, str]] = [
    (b"{,}", 400, -1001, "Invalid JSON request body"),
    (body(clientBatchId="b" * 3_000_000), 400, -1001, "Invalid JSON request body"),
    (flow({"action": "dance"}), 400, -1007, "$.callflow[0].action should be one of: say,playFile,sayAndCapture"),
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
]


async def test_a_call_is_refused_as_the_service_does_and_nobody_is_called(caller: Caller) -> None:
    for given, status, code, message in REFUSED:
        answer = await caller.post(given)
        told = answer.json()
        UUID(told.pop("callFlowRequestId"))
        refused = {"sessionStatus": "NOT_CREATED", "statusCode": code, "statusMessage": message}
        assert (answer.status_code, told) == (status, refused)
        *_, entry = await caller.ledger()
        found = (entry["rang"], entry["session_id"], entry["http_status"], entry["code"], entry["answered_with"])
        assert found == (False, None, status, code, f"{status} NOT_CREATED ({code})")


async def test_only_the_key_the_sub_account_the_source_and_the_voice_of_the_account_are_taken(caller: Caller) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic a2V5"}):
        answer = await caller.post(body(), headers=headers)
        refused = (401, "Authentication header not found or token invalid")
        assert (answer.status_code, answer.json()["statusMessage"]) == refused
    assert {entry["rang"] for entry in await caller.ledger()} == {False}
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
        ({"voices": ["en-US-BenjaminRUS"]}, None, -1002),
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
        (entry,) = await caller.ledger()
    assert answer.json()["statusCode"] == -1015
    for given in (answer, other):
        ahead = parsedate_to_datetime(given.headers["Date"]) - datetime.now(UTC)
        assert timedelta(minutes=59) < ahead < timedelta(minutes=61)
    assert abs(entry["at_seconds"] - time.time()) < 60
