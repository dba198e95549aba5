"""The rest of the account's API, as far as the sandbox plays it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.calling import Caller, calling
from voiceflow_worker.sandbox import Sandbox

pytestmark = pytest.mark.anyio

ACME = "/api/v1/subaccounts/acme"
NUMBER_FIELDS = {
    "msisdn", "dateCreated", "dateUpdated", "countryCode", "operationalStatus", "referenceId", "rentalPrice",
    "incomingRate", "billingUnit", "billingCurrency", "numberType", "uri", "numberHealthCheckEnabled", "numberHealth",
}  # fmt: skip
KEY = {"Authorization": "Bearer key-1"}


async def get(caller: Caller, path: str) -> Any:
    return (await caller.client.get(caller.url + ACME + path, headers=KEY)).json()


async def test_speech_profiles_are_listed(caller: Caller) -> None:
    profiles = (await get(caller, "/speech-profiles"))["speechProfiles"]
    assert {"en-US-BenjaminRUS", "en-IE-EmilyNeural"} <= {profile["speechProfileCode"] for profile in profiles}
    assert all(
        set(profile) == {"speechProfileCode", "localeCode", "localeDescription", "gender"} for profile in profiles
    )


async def test_the_numbers_of_the_account_are_listed_and_found() -> None:
    async with calling(Sandbox(numbers=["+6531234567", "+12025550123"])) as caller:
        listed = await get(caller, "/numbers")
        found = await get(caller, "/numbers/+6531234567")
        missing = await caller.client.get(f"{caller.url}{ACME}/numbers/6599999999", headers=KEY)
    assert listed["totalNumbers"] == 2
    assert [number["msisdn"] for number in listed["numbers"]] == ["6531234567", "12025550123"]
    assert set(listed) == {"totalNumbers", "lastUpdatedAt", "numbers", "statusCode", "statusMessage"}
    assert all(set(number) == NUMBER_FIELDS for number in listed["numbers"])
    assert set(listed["numbers"][0]["numberHealth"]) == {"isHealthy", "status", "lastCheckedTime"}
    assert set(found) == {"statusCode", "statusMessage", "timestamp", "payload"}
    assert set(found["payload"]) == {"referenceId", "msisdn", "countryCode"}
    assert (found["payload"]["msisdn"], found["payload"]["countryCode"]) == ("6531234567", "SG")
    assert missing.status_code == 404
    assert set(missing.json()) == {"statusCode", "statusMessage", "timestamp"}


async def test_webhooks_are_registered_listed_and_removed(caller: Caller) -> None:
    assert await get(caller, "/webhooks") == {
        "subAccountId": "acme",
        "count": 0,
        "webhooks": [],
        "statusCode": 0,
        "statusMessage": "ok",
    }
    given = {"type": "VSS", "url": "http://127.0.0.1:9/hook"}
    await caller.client.post(f"{caller.url}{ACME}/webhooks", json=given, headers=KEY)
    listed = await get(caller, "/webhooks")
    removed = await caller.client.delete(f"{caller.url}{ACME}/webhooks/VSS", headers=KEY)
    again = await caller.client.delete(f"{caller.url}{ACME}/webhooks/VSS", headers=KEY)
    other = await caller.client.get(f"{caller.url}{ACME.replace('acme', 'other')}/webhooks", headers=KEY)
    assert listed["webhooks"] == [{**given, "enabled": True, "httpAuthHeaderAvailable": False}]
    assert (removed.status_code, again.status_code) == (200, 404)
    assert removed.json() == {
        **given, "enabled": False, "httpAuthHeaderAvailable": False, "statusCode": 0, "statusMessage": "deleted"
    }  # fmt: skip
    assert other.json()["count"] == 0


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


async def test_recordings_are_those_that_were_ordered(caller: Caller) -> None:
    placed = (await caller.place()).json()["sessionId"]
    await caller.order("recordings", {"session_id": placed, "url": "https://files.example.com/1.mp3", "seconds": 12.5})
    (found,) = (await get(caller, f"/recordings/{placed}"))["recordings"]
    names = {"recordingId", "sessionid", "subAccountId", "status", "externalFileUrl", "duration", "startRecordingTime"}
    assert set(found) == names
    assert (found["sessionid"], found["externalFileUrl"]) == (placed, "https://files.example.com/1.mp3")
    assert (await get(caller, "/recordings/another"))["recordings"] == []
    await caller.order("reset", {})
    assert (await get(caller, f"/recordings/{placed}"))["recordings"] == []
