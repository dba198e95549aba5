"""The rest of the account's API, as far as the sandbox plays it."""

from __future__ import annotations

import pytest

from tests.sandbox.calling import Caller, calling
from voiceflow_worker.sandbox import Sandbox

pytestmark = pytest.mark.anyio

ACME = "/api/v1/subaccounts/acme"
KEY = {"Authorization": "Bearer key-1"}


@pytest.mark.parametrize(
    "given",
    [
        [],
        {},
        {"type": "SMS", "url": "http://127.0.0.1:9/"},
        {"type": "VSS"},
        {"type": "VSS", "url": "ftp://127.0.0.1/"},
        {"type": "VSS", "url": "http://127.0.0.1:9/", "enabled": "yes"},
        {"type": "VSS", "url": "http://127.0.0.1:9/", "httpAuthHeader": 1},
    ],
)
async def test_a_webhook_that_makes_no_sense_is_refused(caller: Caller, given: object) -> None:
    answer = await caller.client.post(f"{caller.url}{ACME}/webhooks", json=given, headers=KEY)
    assert answer.status_code == 422
    assert set(answer.json()) == {"errorId", "statusCode", "statusMessage", "timestamp"}
    assert answer.json()["statusCode"] == "1001"


@pytest.mark.parametrize("path", ["/speech-profiles", "/numbers", "/numbers/6531234567", "/webhooks", "/recordings/1"])
async def test_nothing_is_reported_without_a_key(path: str) -> None:
    async with calling(Sandbox(api_key="key-1")) as caller:
        answer = await caller.client.get(caller.url + ACME + path, headers={"Authorization": "Bearer key-2"})
        posted = await caller.client.post(f"{caller.url}{ACME}/webhooks", json={})
    assert (answer.status_code, posted.status_code) == (401, 401)
    assert answer.json()["statusMessage"] == "Authentication header not found or token invalid"
