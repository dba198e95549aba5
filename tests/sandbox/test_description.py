"""The OpenAPI document describes what the sandbox answers, what the client asks, and the events between them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
import pytest

from tests.sandbox.calling import ACCOUNT, KEY, PATH, body
from tests.sandbox.contract import EVENTS, Watched, known_contract
from tests.webhooks.receiving import SECRET, events_app
from voiceflow_worker import CallFlow, VoiceClient
from voiceflow_worker.asgi.server import serving
from voiceflow_worker.model.flows.callflow import find_problems
from voiceflow_worker.model.reports.events import CallAction, UnknownEvent, parse_event
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.control import description
from voiceflow_worker.sandbox.orders import Fault, FaultKind, Script
from voiceflow_worker.webhooks import PATH as RECEIVER_PATH
from voiceflow_worker.webhooks.reading import OtherEvent

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
        await voice.send(CallFlow.parse(body()))
        await stage.settled()
        await voice.speech_profiles()
        await voice.webhooks()
        await voice.register_webhook("VNU", stage.url, auth_header="Basic bWU=")
        for enabled in ({"enabled": None}, {"active": False}, {"enabled": "yes"}):
            await stage.plain.post(f"{ACCOUNT}/webhooks", json={"type": "VCS", "url": stage.url, **enabled})
        logged = await voice.logged_calls(since=since, until=datetime.now(UTC) + timedelta(days=1))
        assert logged.rows
        await stage.plain.get(f"{ACCOUNT}/messages/exports/unknown")
        for path in ("speech-profiles", "numbers", "numbers/6531234567", "webhooks"):
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
        faults += [Fault(fault=FaultKind.STATUS, status=status) for status in (200, 429)]
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


QUICK = 20_000.0


@dataclass(frozen=True)
class Stage:
    """A sandbox and a receiver whose exchanges are watched, and a client between them."""

    sandbox: Sandbox
    voice: VoiceClient
    plain: httpx.AsyncClient
    asked: Watched
    told: Watched
    url: str

    async def settled(self) -> None:
        with anyio.fail_after(100):
            await self.sandbox.idle()


def goodbye() -> dict[str, Any]:
    return {"callflow": [{"action": "hangup"}]}


@asynccontextmanager
async def staged(replies: Callable[[], dict[str, Any]] = goodbye, **more: Any) -> AsyncGenerator[Stage]:
    async def answer(event: OtherEvent) -> bytes | None:
        return CallFlow.parse(replies(), reply=True).to_json() if isinstance(event, CallAction) else None

    told = Watched(events_app(on_event=answer))
    async with serving(told) as receiver:
        hook = receiver.url + RECEIVER_PATH
        sandbox = Sandbox(webhook=hook, webhook_secret=SECRET, speed=QUICK, **more)
        asked = Watched(sandbox.app)
        async with (
            serving(asked) as address,
            VoiceClient("key-1", "acme", base_url=address.url) as voice,
            httpx.AsyncClient(trust_env=False, base_url=address.url, headers=KEY, timeout=20) as plain,
        ):
            yield Stage(sandbox, voice, plain, asked, told, address.url)
            await sandbox.aclose()


def problems_of(stage: Stage) -> list[str]:
    contract = known_contract()
    return [problem for exchange in stage.asked.exchanges for problem in contract.problems(exchange)] + [
        problem for exchange in stage.told.exchanges for problem in contract.problems_of_event(exchange.request)
    ]


Body = dict[str, Any]

CALL: Body = {"action": "makeCall", "params": {"source": "6512341234", "destination": "6512345678"}}
SAY: Body = {
    "action": "say",
    "params": {
        "text": "Hello, this is a test Voice Message.",
        "voiceProfile": "en-IE-EmilyNeural",
        "repetition": 1,
        "speed": 1,
    },
}
PLAY: Body = {
    "action": "playFile",
    "params": {"fileUrl": "https://sample-videos.com/audio/mp3/wave.mp3", "repetition": 2},
}
HANGUP: Body = {"action": "hangup"}
SIMPLE_MENU: Body = {
    "action": "sayAndCapture",
    "params": {
        "promptMessage": "If you have resolved your issue already, press one. Or press two to speak to an agent.",
        "voiceProfile": "en-US-BenjaminRUS",
        "repetition": 1,
        "speed": 1,
        "minDigits": 1,
        "maxDigits": 1,
        "digitTimeout": 10000,
        "overallTimeout": 10000,
        "completeOnHash": False,
        "noOfTries": 2,
        "successMessage": None,
        "failureMessage": "Invalid input, please try again",
    },
}
FULL_MENU: Body = {
    "action": "sayAndCapture",
    "params": {
        "promptMessage": "Enter 1 if you would like to talk",
        "successMessage": "Thank you, have a nice day!",
        "failureMessage": "Invalid input received.",
        "voiceProfile": "en-US-BenjaminRUS",
        "speed": 1.0,
        "completeOnHash": True,
        "minDigits": 2,
        "maxDigits": 2,
        "digitTimeout": 10000,
        "overallTimeout": 10000,
        "noOfTries": 3,
    },
}
BRIDGE: Body = {
    "action": "makeCall",
    "params": {"source": "+65123456789", "destination": "+6543212345", "callRecording": True},
}

REQUESTS: dict[str, Body] = {
    "voice messaging, speech": {"callflow": [CALL, SAY, HANGUP]},
    "voice messaging, file": {"callflow": [CALL, PLAY, HANGUP]},
    "voice messaging, valid until": {"validUntil": "2024-07-03T05:59:32.226Z", "callflow": [CALL, SAY, HANGUP]},
    "simple menu": {"callflow": [CALL, SIMPLE_MENU]},
    "correlation ids": {
        "clientRequestId": "order-4821-reminder",
        "clientBatchId": "reminders",
        "callflow": [{"action": "makeCall", "params": {"source": "+6588000000", "destination": "+6590000000"}}],
    },
    "two calls": {"callflow": [CALL, CALL]},
}
ANSWERS: dict[str, Body] = {
    "bridge": {"clientActionId": "ivr1_level2", "callflow": [BRIDGE]},
    "say": {
        "clientActionId": "NumberMaskingId1",
        "callflow": [
            {
                "action": "say",
                "params": {
                    "text": "Hello This is a test message",
                    "voiceProfile": "en-US-ZiraRUS",
                    "repetition": 1,
                    "speed": 1.0,
                },
            },
            HANGUP,
        ],
    },
    "menu": {"clientActionId": "ivr1_level2", "callflow": [FULL_MENU]},
    "menu without an id": {"callflow": [SIMPLE_MENU]},
    "file": {"clientActionId": "ivr1_level2", "callflow": [PLAY]},
    "hangup": {"callflow": [HANGUP]},
}
