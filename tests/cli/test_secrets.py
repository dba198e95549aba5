"""No command, error or log shows a secret, however oddly it is written."""

from __future__ import annotations

import gc
import json
import logging
from pathlib import Path

import pytest
import structlog

from tests.cli.running import Program
from voiceflow_worker.cli.opening import log_to_stderr

ODD = ["QZ", "QZ/QZ", "QZ@QZ", "QZ%2FQZ", "QZ#QZ", "QZ?QZ", "QZ&QZ=QZ", "QZ[QZ", "QZ QZ", "QZéQZ\u2100QZ"]
URLS = [
    "redis://me:{}@127.0.0.1:1/0",
    "redis://:{}@127.0.0.1:1",
    "redis://127.0.0.1:1/0?sentinel_password={}",
    "redis+sentinel://me:x@127.0.0.1:1/calls?sentinel_password={}&durability=best-effort",
    "redis+cluster://me:{}@127.0.0.1:1,127.0.0.1:2",
    "nosuch://me:{}@host/0?token={}",
    "me:{}@host",
    "sqlite://me:{}@host/calls.db",
    "sqlite:///calls.db?key={}",
]
COMMANDS = [
    ["config", "show"],
    ["doctor"],
    ["status"],
    ["worker", "--drain"],
]


# The Redis client leaves streams of connections that it could not make to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("url", URLS)
def test_the_password_of_a_store_is_shown_nowhere(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("VOICEFLOW_STATE_DIR", str(voiceflow.folder / "state"))
    for place, odd in enumerate(ODD):
        # Every command meets every form once: opening a Redis that is away takes its time.
        commands = COMMANDS if place == 0 else COMMANDS[:1] + COMMANDS[2:3]
        for command in commands:
            monkeypatch.setenv("VOICEFLOW_STORE", url.replace("{}", odd))
            ended = voiceflow(*command)
            assert "QZ" not in ended.out + ended.err, (command, odd)
            monkeypatch.delenv("VOICEFLOW_STORE")
            if command == ["status"] and place == 0:
                ended = voiceflow(*command, "--store", url.replace("{}", odd))
                assert "QZ" not in ended.out + ended.err, (command, odd, "as an option")
    gc.collect()  # while their warnings are ignored


@pytest.mark.parametrize("name", ["BASE_URL", "NOTIFY_URL"])
def test_no_key_in_an_address_is_shown(voiceflow: Program, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for url in ("https://me:{}@voice.example.com", "https://{}@voice.example.com", "me:{}@host"):
        for odd in ODD:
            monkeypatch.setenv(f"VOICEFLOW_{name}", url.replace("{}", odd))
            ended = voiceflow("config", "show")
            assert "QZ" not in ended.out + ended.err, (url, odd)


def test_options_of_a_store_that_are_not_secrets_are_shown(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "redis+sentinel://me:x@s1/calls?sentinel_password=QZ&durability=best-effort"
    monkeypatch.setenv("VOICEFLOW_STORE", url)
    found = {line["setting"]: line["value"] for line in voiceflow("config", "show", "--json").lines}
    assert found["VOICEFLOW_STORE"] == "redis+sentinel://me:***@s1/calls?***&durability=best-effort"


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_log_hides_secrets_that_somebody_else_logs(capfd: pytest.CaptureFixture[str], form: str) -> None:
    secret = 'QZ"QZ\\QZ'
    log_to_stderr(form=form, level="info", secrets=[secret])
    logging.getLogger("somebody").warning("sent %s to redis://me:QZ@host and http://QZ@host", secret)
    structlog.get_logger().warning(f"ours {secret}", url="redis://me:QZ/QZ@host", more=[secret, {"a": secret}])
    try:
        raise ValueError(f"{secret} and amqp://me:QZ@host")
    except ValueError:
        structlog.get_logger().exception("a bug")
    err = capfd.readouterr().err
    assert "QZ" not in err
    if form == "json":
        assert [json.loads(line)["level"] for line in err.splitlines()] == ["warning", "warning", "error"]


def test_the_log_of_a_command_hides_the_secrets_of_its_settings(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("QZ-from-a-file\n")
    monkeypatch.setenv("VOICEFLOW_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("VOICEFLOW_WEBHOOK_SECRET", "Bearer QZ-webhook")
    assert voiceflow("config", "show").code == 0
    logging.getLogger("somebody").warning("Authorization: Bearer QZ-from-a-file, Bearer QZ-webhook")
    assert "QZ" not in capfd.readouterr().err


def test_a_command_that_would_send_the_key_unencrypted_ends_before_it(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    (voiceflow.folder / ".env").write_text("VOICEFLOW_BASE_URL=http://10.255.255.1:9\n")
    monkeypatch.setenv("VOICEFLOW_API_KEY", "QZ-key")
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "acme")
    for command in (
        ["worker", "--drain"],
        ["account", "profiles"],
        ["reconcile"],
        ["serve", "--register", "https://x.example"],
    ):
        ended = voiceflow(*command)
        assert ended.code == 2, ended
        assert "VOICEFLOW_ALLOW_PLAIN_HTTP" in ended.err
        assert "QZ" not in ended.out + ended.err
    ended = voiceflow("doctor")
    assert "VOICEFLOW_ALLOW_PLAIN_HTTP" in ended.out
