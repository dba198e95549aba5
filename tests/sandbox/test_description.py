"""The OpenAPI document has what the sandbox serves; the bodies that the guides print are right by the rules."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.sandbox.calling import KEY, SOURCE
from voiceflow_worker import CallFlow
from voiceflow_worker.model.flows.callflow import find_problems
from voiceflow_worker.sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def test_every_operation_of_the_served_document_answers_as_it_says() -> None:
    parts = {"sub_account": "acme", "number": SOURCE, "hook_type": "VSS", "job_id": "none"}
    async with Sandbox().running() as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        document = (await client.get("/openapi.json")).json()
        assert not list(OpenAPIV31SpecValidator(document).iter_errors())
        assert {"Fault", "Script"} <= document["components"]["schemas"].keys()
        for path, methods in document["paths"].items():
            at = re.sub(r"{(\w+)}", lambda part: parts[part[1]], path)
            for method, operation in methods.items():
                answer = await client.request(method, at, headers=KEY, content=b"{}")
                known = {str(answer.status_code), f"{answer.status_code // 100}XX"} & operation["responses"].keys()
                assert known, (method, path, answer.status_code)
                assert operation["summary"], (method, path)
                assert path.startswith("/_sandbox/") == (operation.get("security") == []), path


def test_what_the_guides_print_is_as_the_rules_say() -> None:
    for given in REQUESTS.values():
        assert not [found for found in find_problems(given) if found.is_error]
        assert CallFlow.parse(given).to_body() == given
    for reply in ANSWERS.values():
        assert not [found for found in find_problems(reply, reply=True) if found.is_error]


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
