"""`serve --register`: 8x8 is told where its events are received, and people what that replaced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Program, Spawned
from voiceflow_worker.cli.serve import register_webhook
from voiceflow_worker.gateway.account.resources import WebhookType
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.events.delivery import WebhookTarget
from voiceflow_worker.settings import load_settings

URL = "https://calls.example.com/webhooks/8x8"


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[EightByEight]:
    with running(Sandbox(api_key="key-1", sub_accounts=["acme"])) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


def hooks(eight: EightByEight) -> dict[str, WebhookTarget]:
    return eight.sandbox._account.hooks("acme")


def test_summaries_are_sent_to_the_receiver_with_its_secret(folder: Path, eight: EightByEight) -> None:
    environment = {"VOICEFLOW_WEBHOOK_SECRET": "Bearer of-news"}
    with Spawned(["serve", "--port", "0", "--register", "https://calls.example.com"], folder, environment) as serve:
        told = serve.wait_for("8x8 now sends VSS events")
        ended = serve.stop()
    now = f"8x8 now sends VSS events to {URL}, with VOICEFLOW_WEBHOOK_SECRET"
    assert told == f"{now}; no address was registered before\n"
    assert hooks(eight) == {"VSS": WebhookTarget(url=URL, authorization="Bearer of-news")}
    assert ended.code == 0
    assert "of-news" not in ended.err


def test_while_8x8_is_away_it_is_tried_again(
    eight: EightByEight, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voiceflow_worker.gateway.client import VoiceClient

    monkeypatch.setattr("voiceflow_worker.gateway.account.resources.TRIES", 1)
    monkeypatch.setattr("voiceflow_worker.cli.serve.FIRST_PAUSE", timedelta(0))
    lines: list[str] = []
    found = VoiceClient.from_settings

    def away_at_first(settings: Any, **options: Any) -> VoiceClient:
        client = found(settings, **options)
        genuine, monkeypatched = client.webhooks, iter(range(2))

        async def webhooks() -> Any:
            if next(monkeypatched, None) is not None:
                from voiceflow_worker.errors import VoiceUnavailableError

                raise VoiceUnavailableError("127.0.0.1 answered 503")
            return await genuine()

        monkeypatch.setattr(client, "webhooks", webhooks)
        return client

    monkeypatch.setattr(VoiceClient, "from_settings", away_at_first)

    async def work() -> None:
        await register_webhook(load_settings(), URL, kinds=[WebhookType.SESSION_SUMMARY], tell=lines.append)

    anyio.run(work)
    assert [line.partition(":")[0] for line in lines[:2]] == [f"{URL} is not registered yet".partition(":")[0]] * 2
    assert lines[2].startswith("8x8 now sends VSS events")


@pytest.mark.slow
def test_a_receiver_that_may_not_be_registered_ends_with_the_reason(folder: Path, eight: EightByEight) -> None:
    with Spawned(["serve", "--port", "0", "--register", URL], folder, {"VOICEFLOW_API_KEY": "key-2"}) as serve:
        ended = serve.end()
    assert ended.code == 3
    assert "8x8 does not accept the API key" in ended.err
    assert "VOICEFLOW_API_KEY" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://calls.example.com", "https://10.0.0.7/webhooks/8x8"])
def test_an_address_that_8x8_cannot_reach_is_refused_before_anything_is_opened(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("VOICEFLOW_API_KEY", "key-1")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")
    ended = voiceflow("serve", "--port", "0", "--register", url)
    assert ended.code == 2
    assert "8x8 cannot send events there" in ended.err
    assert "--force" in ended.err
    assert list(voiceflow.folder.iterdir()) == []


@pytest.mark.slow
def test_a_sandbox_takes_an_address_of_this_machine_and_force_any(folder: Path, eight: EightByEight) -> None:
    for arguments in (["--register", "http://127.0.0.1:9"], ["--register", "http://127.0.0.1:9", "--force"]):
        with Spawned(["serve", "--port", "0", *arguments], folder) as serve:
            serve.wait_for("8x8 now sends VSS events to http://127.0.0.1:9/webhooks/8x8")
            assert serve.stop().code == 0
