"""A key goes over plain http to this machine only, unless that is allowed by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceflow_worker import VoiceClient, load_settings
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.notify.webhook import OutcomeWebhook

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


HERE = [
    "http://127.0.0.1:8088", "http://127.7.7.7", "http://[::1]:8088", "http://[::ffff:127.0.0.1]",
    "http://localhost:8088", "http://LOCALHOST.", "https://voice.example.com",
]  # fmt: skip


ELSEWHERE = [
    "http://voice.example.com", "HTTP://voice.example.com", "http://10.0.0.1:8088", "http://0.0.0.0:8088",
    "http://[fe80::1]", "http://127.0.0.1.example.com", "http://localhost.example.com",
    "http://2130706433.example.com", "http://0x7f.1", "http://[::ffff:10.0.0.1]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")


def test_a_sandbox_on_this_machine_is_reached_as_ever() -> None:
    for url in HERE:
        VoiceClient("key-1", "acme", base_url=url)
        OutcomeWebhook(url, secret=SECRET)


def test_a_key_does_not_leave_this_machine_unencrypted() -> None:
    for url in ELSEWHERE:
        with pytest.raises(SettingsError, match="VOICEFLOW_ALLOW_PLAIN_HTTP=yes") as caught:
            VoiceClient("key-1", "acme", base_url=url)
        assert "key-1" not in str(caught.value)
        with pytest.raises(SettingsError, match="VOICEFLOW_ALLOW_PLAIN_HTTP=yes"):
            OutcomeWebhook(url, secret=SECRET)


def test_it_leaves_when_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    VoiceClient("key-1", "acme", base_url=ELSEWHERE[0], allow_plain_http=True)
    OutcomeWebhook(ELSEWHERE[0], secret=SECRET, allow_plain_http=True)
    for yes in ("yes", "YES", "true", "1"):
        monkeypatch.setenv("VOICEFLOW_ALLOW_PLAIN_HTTP", yes)
        VoiceClient.from_settings(load_settings(api_key="key-1", base_url=ELSEWHERE[0]))
    monkeypatch.setenv("VOICEFLOW_ALLOW_PLAIN_HTTP", "no")
    with pytest.raises(SettingsError, match="Nothing was sent"):
        VoiceClient.from_settings(load_settings(api_key="key-1", base_url=ELSEWHERE[0]))


def test_a_file_in_the_working_directory_cannot_allow_it_for_the_key_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = "VOICEFLOW_BASE_URL=http://evil.example\nVOICEFLOW_ALLOW_PLAIN_HTTP=yes\n"
    Path(".env").write_text(lines)
    monkeypatch.setenv("VOICEFLOW_API_KEY", "key-1")
    with pytest.raises(SettingsError, match="does not apply to an API key from another place"):
        load_settings()
    monkeypatch.delenv("VOICEFLOW_API_KEY")
    Path(".env").write_text(f"{lines}VOICEFLOW_API_KEY=own\n")
    VoiceClient.from_settings(load_settings())


def test_no_address_that_cannot_be_one_is_quoted_with_its_password() -> None:
    for url in ("https://me:QZ@voice.example.com", "me:QZ@host", "ftp://me:Q/QZ@host"):
        with pytest.raises(SettingsError) as caught:
            VoiceClient("key-1", "acme", base_url=url)
        assert "QZ" not in str(caught.value)
