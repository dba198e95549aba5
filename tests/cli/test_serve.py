"""`voiceflow serve`: its port, its registration at 8x8; notifications of serve and worker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Program, Spawned
from tests.support.crm import SECRET, running_crm
from tests.support.processes import voiceflow as process
from tests.support.stage import stage
from voiceflow_worker.cli.serve import receiver_url, refuse_out_of_reach, register_webhook
from voiceflow_worker.gateway.account import WebhookType
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.account import WebhookTarget
from voiceflow_worker.settings import load_settings
from voiceflow_worker.webhooks import PATH


@pytest.mark.slow
def test_a_port_that_is_taken_is_reported(folder: Path) -> None:
    with Spawned(["serve", "--port", "0"], folder) as first:
        port = first.wait_for("ready on").split("127.0.0.1:")[1].split("/")[0]
        with Spawned(["serve", "--port", port], folder) as second:
            ended = second.end()
        assert first.stop().code == 0
    assert ended.code == 1
    assert (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; stop the program that uses this port" in ended.err
    )
    assert "Traceback" not in ended.err


def test_a_receiver_that_takes_events_from_anybody_is_refused_unless_it_is_told_to(voiceflow: Program) -> None:
    for host in ("0.0.0.0", "::"):
        ended = voiceflow("serve", "--host", host, "--port", "0", "--store", "sqlite:///unmade.db")
        assert ended.code == 2
        assert f"on --host {host}, anybody who reaches this port can send events" in ended.err
        assert "VOICEFLOW_WEBHOOK_SECRET" in ended.err
        assert "--open-to-all" in ended.err
        assert not (voiceflow.folder / "unmade.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--host", "::1"], {"VOICEFLOW_WEBHOOK_ALOW": "192.0.2.0/24"}),
        (["--host", "0.0.0.0", "--open-to-all"], {}),
        (["--host", "0.0.0.0"], {"VOICEFLOW_WEBHOOK_SECRET": "Bearer of-news-of-calls-1"}),
        (["--host", "0.0.0.0"], {"VOICEFLOW_WEBHOOK_ALLOW": "192.0.2.0/24"}),
    ],
)
def test_a_receiver_is_not_refused(arguments: list[str], environment: dict[str, str], folder: Path) -> None:
    with Spawned(["serve", "--port", "0", *arguments], folder, environment) as serve:
        serve.wait_for("ready on")
        ended = serve.stop()
    assert ended.code == 0
    assert ("did you mean VOICEFLOW_WEBHOOK_ALLOW?" in ended.err) == ("VOICEFLOW_WEBHOOK_ALOW" in environment)


URL = "https://calls.example.com/webhooks/8x8"


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[EightByEight]:
    with running(Sandbox(api_key="key-1", sub_accounts=["acme"])) as found:
        yield found.settings(monkeypatch)


def hooks(eight: EightByEight) -> dict[str, WebhookTarget]:
    return eight.sandbox._account.hooks("acme")


@pytest.mark.slow
def test_summaries_are_sent_to_the_receiver_with_its_secret(folder: Path, eight: EightByEight) -> None:
    environment = {
        "VOICEFLOW_WEBHOOK_SECRET": "Bearer of-news-of-calls-1, Bearer of-news-of-calls-0"
    }  # the newer first
    with Spawned(["serve", "--port", "0", "--register", "https://calls.example.com"], folder, environment) as serve:
        serve.wait_for(f"--register https://calls.example.com is completed to {URL}")
        told = serve.wait_for("8x8 now sends VSS events")
        ended = serve.stop()
    now = f"8x8 now sends VSS events to {URL}, with VOICEFLOW_WEBHOOK_SECRET"
    assert told == f"{now}; no address was registered before\n"
    assert hooks(eight) == {"VSS": WebhookTarget(url=URL, authorization="Bearer of-news-of-calls-1")}
    assert ended.code == 0
    assert "of-news" not in ended.err


def test_while_8x8_is_away_it_is_tried_again(
    eight: EightByEight, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voiceflow_worker.gateway.client import VoiceClient

    monkeypatch.setattr("voiceflow_worker.gateway.account.TRIES", 1)
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
        settings = load_settings(webhook_secret="Bearer of-news-of-calls-1")
        await register_webhook(settings, URL, kinds=[WebhookType.SESSION_SUMMARY], tell=lines.append)

    anyio.run(work)
    assert [line.partition(":")[0] for line in lines[:2]] == [f"{URL} is not registered yet".partition(":")[0]] * 2
    assert lines[2].startswith(f"8x8 now sends VSS events to {URL}, with VOICEFLOW_WEBHOOK_SECRET")
    assert hooks(eight) == {"VSS": WebhookTarget(url=URL, authorization="Bearer of-news-of-calls-1")}


@pytest.mark.slow
def test_a_receiver_that_may_not_be_registered_ends_with_the_reason(folder: Path, eight: EightByEight) -> None:
    with Spawned(["serve", "--port", "0", "--register", URL], folder, {"VOICEFLOW_API_KEY": "key-2"}) as serve:
        ended = serve.end()
    assert ended.code == 3
    assert "8x8 does not accept the API key" in ended.err
    assert "VOICEFLOW_API_KEY" in ended.err
    assert "Traceback" not in ended.err


def test_an_address_that_8x8_cannot_reach_is_refused_before_anything_is_opened(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_API_KEY", "key-1")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")
    for url in ("http://127.0.0.1:8080", "http://calls.example.com", "https://10.0.0.7/webhooks/8x8"):
        ended = voiceflow("serve", "--port", "0", "--register", url)
        assert ended.code == 2
        assert "8x8 cannot send events there" in ended.err
        assert "--force" in ended.err
        assert list(voiceflow.folder.iterdir()) == []


def test_a_sandbox_of_this_machine_takes_any_address() -> None:
    refuse_out_of_reach("http://127.0.0.1:9/webhooks/8x8", base_url="http://127.0.0.1:8088")


RECEIVER = "https://example.com/webhooks/8x8"
BELOW = "https://example.com/calls/webhooks/8x8"


def test_an_address_is_completed_to_the_one_that_the_receiver_answers() -> None:
    for given, registered in [
            *((f"https://example.com{path}", RECEIVER) for path in ("", "/", "//", "/webhooks", "/webhooks/")),
            ("https://example.com/WebHooks/8X8", RECEIVER),
            *((RECEIVER + end, RECEIVER) for end in ("", "/", "//")),
            *((f"https://example.com/calls{end}", BELOW) for end in ("", "/", "/webhooks", PATH, PATH + "/")),
            (f" {BELOW}\n", BELOW),
            ("https://example.com:8443/a/b?token=x", "https://example.com:8443/a/b/webhooks/8x8?token=x"),
            ("https://example.com/my-webhooks/", "https://example.com/my-webhooks/webhooks/8x8"),
        ]:  # fmt: skip
        assert receiver_url(given, path=PATH) == registered


def test_with_force_a_path_of_a_proxy_is_registered_as_it_is() -> None:
    for url in ("https://example.com/hooks/voice", "https://example.com/hooks/voice/"):
        assert receiver_url(url, path=PATH, as_it_is=True) == url
    assert receiver_url("https://example.com/", path=PATH, as_it_is=True) == RECEIVER


def test_what_is_no_address_is_refused_in_a_sentence(voiceflow: Program) -> None:
    for url in (
        "", "calls.example.com", "ftp://example.com", "https://", "https://[::1", "https://a b",
        "https://example.com:99999", "https://example.com/#calls", "https://me:hunter2@example.com",
    ):  # fmt: skip
        ended = voiceflow("serve", "--port", "0", "--register", url)
        assert (ended.code, "Traceback" in ended.err, "hunter2" in ended.err) == (2, False, False)
        assert "--register" in ended.err


@pytest.mark.slow
def test_a_drain_ends_when_everything_was_told(tmp_path: Path) -> None:
    """Worker and receiver share the store and the address; one of them tells each outcome."""
    with running_crm() as crm, stage(tmp_path, notify_url=crm.url, notify_secret=SECRET) as on:
        on.campaign(20)
        done = process("worker", "--drain", "--rate", "unlimited", env=on.env)
        assert done.wait() == 0, done.told
        assert "are sent to 127.0.0.1" in done.told
        assert "token" not in done.told
        assert SECRET not in done.told
        calls = {call["id"]: call for call in on.calls()}
    ended = [told for told in crm.told if told["type"] == "call.ended"]
    assert crm.totals() == {"campaign": 20}
    assert sorted(told["data"]["id"] for told in ended) == sorted(calls)
    assert len({told["id"] for told in ended}) == 20
    for told in ended:
        assert told["state"] == calls[told["data"]["id"]]["state"]
        assert told["data"]["outcome"] is not None


@pytest.mark.parametrize("command", [("worker",), ("serve", "--port", "0")])
def test_a_missing_secret_is_reported_before_anything_is_opened(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("VOICEFLOW_API_KEY", "any")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "demo")
    ended = voiceflow(*command, "--notify", "https://crm.example.com/calls")
    assert ended.code == 2
    assert "set VOICEFLOW_NOTIFY_SECRET" in ended.err
    assert not list(voiceflow.folder.iterdir())


def test_a_bad_secret_and_a_bad_address_are_reported_without_showing_them(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_NOTIFY_SECRET", "hunter2")
    ended = voiceflow("serve", "--port", "0", "--notify", "https://crm.example.com/calls")
    assert (ended.code, "hunter2" in ended.err) == (2, False)
    assert "24 to 64 bytes in base64" in ended.err
    ended = voiceflow("serve", "--port", "0", "--notify", "https://me:hunter2@crm.example.com")
    assert (ended.code, "hunter2" in ended.err) == (2, False)
    monkeypatch.setenv("VOICEFLOW_NOTIFY_URL", "https://crm.example.com/calls?token=hunter2")
    shown = voiceflow("config", "show")
    assert "https://crm.example.com/calls?(hidden)" in shown.out
    assert "hunter2" not in shown.out + shown.err
