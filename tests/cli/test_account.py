from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Program
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.delivery import WebhookTarget


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[EightByEight]:
    sandbox = Sandbox(api_key="key-1", sub_accounts=["acme"], numbers=["+6531234567", "+12025550123"])
    with running(sandbox) as found:
        yield found.settings(monkeypatch)


COMMANDS = [["profiles"], ["numbers"], ["webhooks"]]


def test_voices_are_listed(voiceflow: Program, eight: EightByEight) -> None:
    ended = voiceflow("account", "profiles", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert all(set(line) == {"code", "locale", "language", "gender"} for line in ended.lines)
    assert "en-US-JennyNeural" in {line["code"] for line in ended.lines}


def test_voices_are_chosen_by_their_locale(voiceflow: Program, eight: EightByEight) -> None:
    locales = {line["locale"] for line in voiceflow("account", "profiles", "--locale", "EN", "--json").lines}
    assert locales > {"en-US", "en-GB", "en-SG"}
    assert all(each.startswith("en-") for each in locales)
    ended = voiceflow("account", "profiles", "--locale", "xx")
    assert (ended.code, ended.out, ended.err) == (0, "", "the sub-account has no voices of locale xx\n")


def test_numbers_are_listed_as_call_flows_write_them(voiceflow: Program, eight: EightByEight) -> None:
    found = voiceflow("account", "numbers", "--json").lines
    assert [(line["msisdn"], line["country"], line["status"]) for line in found] == [
        ("+6531234567", "SG", "Active"),
        ("+12025550123", "US", "Active"),
    ]
    assert {key: found[0][key] for key in ("health", "is_healthy", "rental_price", "incoming_rate", "currency")} == {
        "health": "Healthy", "is_healthy": True, "rental_price": 5.0, "incoming_rate": 0.01, "currency": "USD"
    }  # fmt: skip
    out = " ".join(voiceflow("account", "numbers").out.split())
    assert "+6531234567 SG Active Healthy 5.0 0.01 minute USD" in out


def test_webhooks_are_listed_without_their_secret(voiceflow: Program, eight: EightByEight) -> None:
    ended = voiceflow("account", "webhooks")
    assert (ended.code, ended.out) == (0, "")
    assert "`voiceflow account webhooks set URL`" in ended.err
    hooks = eight.sandbox._account.hooks("acme")
    hooks["VSS"] = WebhookTarget(url="https://calls.example.com/", authorization="Bearer of-news-of-calls-1")
    assert voiceflow("account", "webhooks", "--json").lines == [
        {"type": "VSS", "url": "https://calls.example.com/", "enabled": True, "has_auth_header": True}
    ]
    out = voiceflow("account", "webhooks").out
    assert out.split()[-4:] == ["VSS", "https://calls.example.com/", "yes", "yes"]
    assert "of-news" not in out


def test_a_webhook_is_deleted_where_it_is_meant(voiceflow: Program, eight: EightByEight) -> None:
    hooks = eight.sandbox._account.hooks("acme")
    hooks["VCS"] = WebhookTarget(url="https://calls.example.com/", authorization=None)
    asked = voiceflow("account", "webhooks", "--delete", "vcs")
    assert (asked.code, "give --yes" in asked.err, set(hooks)) == (2, True, {"VCS"})
    ended = voiceflow("account", "webhooks", "--delete", "vcs", "--yes", "--json")
    assert (ended.code, ended.document, set(hooks)) == (
        0,
        {"type": "VCS", "url": "https://calls.example.com/", "deleted": True},
        set(),
    )
    assert voiceflow("account", "webhooks", "--delete", "VCS", "--yes").code == 1
    assert voiceflow("account", "webhooks", "--delete", "SMS", "--yes").code == 2


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("VOICEFLOW_API_KEY=key-2", (3, "VOICEFLOW_API_KEY")),
        ("VOICEFLOW_SUB_ACCOUNT=other", (1, "8x8 does not know the sub-account other")),
        ("VOICEFLOW_BASE_URL=http://127.0.0.1:9", (3, "127.0.0.1 cannot be reached")),
    ],
)
def test_what_8x8_refuses_is_reported(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch, setting: str, told: tuple[int, str]
) -> None:
    monkeypatch.setenv(*setting.split("=", 1))
    monkeypatch.setattr("voiceflow_worker.gateway.account.TRIES", 1)
    for command in COMMANDS:
        ended = voiceflow("account", *command, "--json")
        assert (ended.code, ended.out) == (told[0], "")
        assert told[1] in ended.err


def test_an_address_is_registered_with_the_newer_of_two_secrets_and_the_command_ends(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_WEBHOOK_SECRET", "Bearer the-newer-of-two-secrets, Bearer the-older-of-two-secrets")
    done = voiceflow("account", "webhooks", "set", "https://calls.example.com", "--type", "vca", "--json")
    assert (done.code, [line["type"] for line in done.lines]) == (0, ["VCA"])
    done = voiceflow("account", "webhooks", "set", "https://calls.example.com", "--json")
    assert {line["type"] for line in done.lines} >= {"VSS", "VCA"}, "types that were registered stay registered"
    assert "8x8 now sends VSS events to https://calls.example.com/webhooks/8x8" in done.err
    assert {line["url"] for line in voiceflow("account", "webhooks", "--json").lines} >= {
        "https://calls.example.com/webhooks/8x8"
    }
    for wrong in (("set",), ("--force",)):
        assert voiceflow("account", "webhooks", *wrong).code == 2
