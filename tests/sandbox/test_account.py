"""The rest of the account's API, as far as the sandbox plays it."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCS, ROOT
from tests.sandbox.calling import Caller
from voiceflow_worker.ivr.call_back import NOT_CALLED_BACK
from voiceflow_worker.sandbox.account import SPEECH_PROFILES

pytestmark = pytest.mark.anyio

ACME = "/api/v1/subaccounts/acme"
KEY = {"Authorization": "Bearer key-1"}


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
        answer = await caller.client.post(f"{caller.url}{ACME}/webhooks", json=given, headers=KEY)
        assert (answer.status_code, answer.json()["statusCode"]) == (422, "1001")
        assert set(answer.json()) == {"errorId", "statusCode", "statusMessage", "timestamp"}


def test_the_account_has_every_voice_of_our_pages_and_one_for_each_language_of_our_own_sentences() -> None:
    voices = {profile["speechProfileCode"] for profile in SPEECH_PROFILES}
    texts = [path.read_text(encoding="utf-8") for path in (*DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.*"))]
    named = {voice for text in texts for voice in re.findall(r"\b[a-z]{2,3}-[A-Z]{2}-[A-Za-z]+(?:Neural|RUS)\b", text)}
    assert len(named) > 5
    assert named - voices == set(), "a campaign as it is printed can be tried in the sandbox"
    languages = {voice.partition("-")[0] for voice in voices}
    assert NOT_CALLED_BACK.keys() | {"ar", "hi", "ja", "ko", "pl", "pt", "ru", "sv", "tr", "vi"} <= languages
    assert "pt-BR-FranciscaNeural" in voices
