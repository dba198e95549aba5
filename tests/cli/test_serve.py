"""`voiceflow serve`: its port, its registration at 8x8; notifications of serve and worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Program, Spawned
from tests.cli.stored import url_of
from tests.support.crm import SECRET, running_crm
from tests.support.processes import voiceflow as process
from tests.support.stage import stage
from voiceflow_worker.cli.serve import receiver_url
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.account import WebhookTarget
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
        assert not (voiceflow.folder / "unmade.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--host", "::1"], {"VOICEFLOW_WEBHOOK_ALOW": "192.0.2.0/24"}),
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
        told = serve.wait_for("8x8 now sends VSS events")
        ended = serve.stop()
    assert f"8x8 now sends VSS events to {URL}, with VOICEFLOW_WEBHOOK_SECRET" in told
    assert hooks(eight) == {"VSS": WebhookTarget(url=URL, authorization="Bearer of-news-of-calls-1")}
    assert ended.code == 0
    assert "of-news" not in ended.err


@pytest.mark.slow
def test_another_address_is_replaced_only_by_force_and_a_failure_ends_no_receiver(
    voiceflow: Program, folder: Path, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, new = "https://other.example.com/webhooks/8x8", "https://127.0.0.1:9/webhooks/8x8"
    first, second = url_of(folder), f"sqlite:///{folder}/second.db"
    for store, options, expected, words in (
        (first, ["--register", other], other, "now sends VSS"),
        (second, ["--register", URL], other, f"8x8 sends VSS events to {other}. `serve --register URL --force`"),
        (second, ["--register", URL, "--force"], URL, "now sends VSS"),
        (first, [], URL, f"8x8 sends VSS events to {URL}"),
        (second, ["--register", new], new, "now sends VSS"),  # in place of its own
    ):
        with Spawned(["serve", "--port", "0", "--store", store, *options], folder) as serve:
            serve.wait_for(words)
            assert serve.stop().code == 0
        assert hooks(eight)["VSS"].url == expected
    monkeypatch.setenv("VOICEFLOW_OUTCOMES", "webhook")
    doctor = voiceflow("doctor", "--store", first, "--json")
    (webhook,) = [line for line in doctor.lines if line["check"] == "webhook"]
    assert webhook["level"] == "failure"
    assert f"to {new}, and not to {other}, which a receiver of this store registered" in webhook["message"]
    with Spawned(["serve", "--port", "0", "--register", URL], folder, {"VOICEFLOW_API_KEY": "wrong"}) as serve:
        serve.wait_for("8x8 and this store do not agree")
        assert serve.stop().code == 0


def test_an_address_is_completed_to_the_one_that_the_receiver_answers() -> None:
    for given in ("https://example.com", "https://example.com/", f"https://example.com{PATH}"):
        assert receiver_url(given, path=PATH) == f"https://example.com{PATH}"
    assert receiver_url("https://example.com/calls", path=PATH) == f"https://example.com/calls{PATH}"


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
        assert done.wait() == 0, done.printed
        assert "are sent to 127.0.0.1" in done.printed
        assert "token" not in done.printed
        assert SECRET not in done.printed
        calls = {call["id"]: call for call in on.calls()}
    ended = [each for each in crm.received if each["type"] == "call.ended"]
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
    monkeypatch.setenv("VOICEFLOW_NOTIFY_URL", "https://crm.example.com/calls")
    ended = voiceflow(*command)
    assert ended.code == 2
    assert "set VOICEFLOW_NOTIFY_SECRET" in ended.err
    assert not list(voiceflow.folder.iterdir())
