"""The OpenAPI document describes what the sandbox answers, what the client asks, and the events between them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.sandbox.calling import ACCOUNT, PATH, body
from tests.sandbox.contract import EVENTS, known_contract
from tests.sandbox.guides import ANSWERS, CALL, REQUESTS, SAY
from tests.sandbox.staged import problems_of, staged
from voiceflow_worker import CallFlow
from voiceflow_worker.model.flows.callflow import find_problems
from voiceflow_worker.model.reports.events import UnknownEvent, parse_event
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.control import description
from voiceflow_worker.sandbox.orders import Fault, FaultKind, RecordingOrder, Script

pytestmark = pytest.mark.anyio

SOURCES = ("+6531234567", "6531234568")


def test_the_document_is_valid_openapi_3_1() -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator  # takes half a second

    document = json.loads(description())
    assert document["openapi"].startswith("3.1.")
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())


async def test_the_sandbox_serves_the_document() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Sandbox().app), base_url="http://sandbox") as client:
        answer = await client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.content == description()


async def test_every_answer_of_the_account_and_of_the_export_is_as_the_document_says() -> None:
    async with staged(numbers=SOURCES) as stage:
        voice, since = stage.voice, datetime.now(UTC) - timedelta(minutes=1)
        stage.sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED))
        placed = await voice.send(CallFlow.parse(body()))
        await stage.settled()
        await voice.speech_profiles()
        await voice.webhooks()
        await voice.register_webhook("VNU", stage.url, auth_header="Basic bWU=")
        for enabled in ({"enabled": None}, {"active": False}, {"enabled": "yes"}):
            await stage.plain.post(f"{ACCOUNT}/webhooks", json={"type": "VCS", "url": stage.url, **enabled})
        stage.sandbox.recordings.add(RecordingOrder(session_id=placed.session_id))
        assert await voice.recordings(placed.session_id)
        await voice.recordings("unknown")
        logged = await voice.logged_calls(since=since, until=datetime.now(UTC) + timedelta(days=1))
        assert logged.rows
        await stage.plain.get(f"{ACCOUNT}/messages/exports/unknown")
        (job_id,) = stage.sandbox.exports.begun
        await stage.plain.delete(f"{ACCOUNT}/messages/exports/{job_id}")
        for path in ("speech-profiles", "numbers", "numbers/6531234567", "webhooks", "recordings/x"):
            await stage.plain.get(f"{ACCOUNT}/{path}", headers={"Authorization": ""})
            await stage.plain.get(f"/api/v1/subaccounts/x/{path}")
    refused = f"POST {ACCOUNT}/webhooks: request at $.enabled: 'yes' is not valid under any of the given schemas"
    assert problems_of(stage) == [refused]


async def test_numbers_and_what_is_removed_are_answered_as_the_document_says() -> None:
    async with staged(numbers=SOURCES) as stage:
        voice = stage.voice
        await voice.numbers()
        await voice.number(SOURCES[0])
        assert await voice.number("+6539999999") is None
        assert await voice.delete_webhook("VNU")
        assert not await voice.delete_webhook("VNU")
    assert not problems_of(stage)


async def test_faults_to_order_are_answers_that_the_document_knows() -> None:
    async with staged() as stage:
        faults = [Fault(fault=FaultKind.STATUS, status=status) for status in (400, 401, 404, 422, 500, 502, 503, 504)]
        faults += [Fault(fault=FaultKind.STATUS, status=200, code=-9999), Fault(fault=FaultKind.THROTTLE)]
        for fault in faults:
            stage.sandbox.faults.add(fault)
            await stage.plain.post(PATH, json=body())
        await stage.plain.post(PATH, content=b"{,}")
        statuses = [exchange.status for exchange in stage.asked.exchanges]
        problems = [problem for problem in problems_of(stage) if "request is no JSON" not in problem]
    assert not problems
    assert statuses == [400, 401, 404, 422, 500, 502, 503, 504, 200, 429, 400]


def test_what_the_guides_print_is_as_the_document_and_the_rules_say() -> None:
    for given in REQUESTS.values():
        assert not known_contract().problems_of("CallflowRequest", given)
        assert not [found for found in find_problems(given) if found.is_error]
        assert CallFlow.parse(given).to_body() == given
    for reply in ANSWERS.values():
        assert not known_contract().problems_of("CallActionReply", reply)
        assert not [found for found in find_problems(reply, reply=True) if found.is_error]
    for odd in ({"callflow": [SAY]}, {"callflow": [CALL, {"action": "say", "params": {"text": "Hello."}}]}):
        assert known_contract().problems_of("CallflowRequest", odd)


def test_every_event_that_is_described_is_one_that_the_receiver_reads() -> None:
    for event_type in EVENTS:
        assert not isinstance(parse_event({"namespace": "VOICE", "eventType": event_type, "payload": {}}), UnknownEvent)
    assert set(known_contract().document["webhooks"]) == set(EVENTS.values())
