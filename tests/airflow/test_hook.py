"""The connection as settings, as a client, as a store; and the test of a connection."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from airflow.sdk import BaseHook

from airflow_provider.hooks.voice import VoiceFlowHook
from tests.support.processes import running
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.types import WebhookType

KEY = "a-key-that-nobody-may-see"
Connect = Callable[..., None]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    with running("sandbox", "--port", "0", "--api-key", KEY) as process:
        yield process.wait_for(r"ready on (http://127\.0\.0\.1:\d+)")[1]


def test_the_connection_becomes_settings(connect: Connect) -> None:
    connect(
        host="http://127.0.0.1:8088",
        password=KEY,
        extra={"sub_account": "tests", "store": "sqlite:////tmp/x.db", "queue": "calls", "source": "+6531234567"},
    )
    settings = VoiceFlowHook().settings()
    assert settings.base_url == "http://127.0.0.1:8088"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == KEY
    assert (settings.sub_account, settings.queue, settings.source) == ("tests", "calls", "+6531234567")


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        ({"host": "http://127.0.0.1:8088"}, "http://127.0.0.1:8088"),
        ({"host": "voice.us.8x8.com"}, "https://voice.us.8x8.com"),
        ({"host": "127.0.0.1", "schema": "http", "port": 8088}, "http://127.0.0.1:8088"),
        ({}, None),
    ],
)
def test_the_base_url_is_the_host(connect: Connect, parts: dict[str, object], url: str | None) -> None:
    connect(password=KEY, **parts)
    assert VoiceFlowHook().settings().base_url == url


PAGE = Path(__file__).resolve().parents[2] / "docs" / "airflow.md"
PRINTED = re.findall(r"export AIRFLOW_CONN_VOICEFLOW_DEFAULT='([^']+)'", PAGE.read_text("utf-8"))


@pytest.mark.parametrize("value", PRINTED, ids=[value[:10] for value in PRINTED])
def test_connections_work_as_the_pages_print_them(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VOICEFLOW_DEFAULT", value)
    settings = VoiceFlowHook().settings()
    assert settings.base_url == "http://127.0.0.1:8088"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "any-key"
    assert settings.store.startswith("sqlite:////tmp/")
    assert (settings.source, settings.voice_profile) == ("+6531234567", "en-IE-EmilyNeural")


def test_a_connection_as_airflow_prints_it_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(PRINTED) == 2
    for value in PRINTED:
        monkeypatch.setenv("AIRFLOW_CONN_VOICEFLOW_DEFAULT", value)
        shown = BaseHook.get_connection("voiceflow_default").get_uri()
        before = VoiceFlowHook().settings()
        monkeypatch.setenv("AIRFLOW_CONN_VOICEFLOW_DEFAULT", shown)
        assert VoiceFlowHook().settings() == before


def test_missing_settings_of_the_connection_come_from_the_environment(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(password=KEY)
    monkeypatch.setenv("VOICEFLOW_SUB_ACCOUNT", "from-outside")
    assert VoiceFlowHook().settings().sub_account == "from-outside"


@pytest.mark.parametrize(
    "extra",
    [
        '{"store": "sqlite:////tmp/x.db"',
        "store=sqlite:////tmp/x.db",
        "[1]",
        '"x"',
        "3",
        "null",
        '{"store": "sqlite:////tmp/x.db", "store": "sqlite:////tmp/y.db"}',
    ],
)
def test_an_extra_that_is_no_json_object_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    connection = {"conn_type": "voiceflow", "password": KEY, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
    with pytest.raises(SettingsError, match="connection other: its extra is not a JSON object"):
        VoiceFlowHook("other").settings()


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"queue": "No Queue"}, "queue"),
        ({"sub_acount": "x"}, "sub"),
        ({"api_key": "x"}, "password"),
        ({"region": "sg"}, r"region \(the connection\)"),
    ],
)
def test_an_error_in_a_connection_names_it(connect: Connect, extra: dict[str, str], expected: str) -> None:
    connect("other", password=KEY, extra=extra)
    with pytest.raises(SettingsError, match=r"connection other: (?s:.*)" + expected):
        VoiceFlowHook("other").settings()


def test_an_error_about_a_missing_key_names_its_field(connect: Connect) -> None:
    connect(extra={"sub_account": "tests"})
    with pytest.raises(SettingsError, match="API key into the password of this connection"):
        VoiceFlowHook().get_client()


def test_the_key_and_the_passwords_of_stores_are_shown_nowhere(
    connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    connect(password=KEY, extra={"sub_account": "tests"})
    monkeypatch.setenv("VOICEFLOW_STORE", "redis://:pass-of-redis@127.0.0.1:1/0")
    hook = VoiceFlowHook()
    shown = [repr(hook), repr(hook.settings()), repr(hook.get_client()), hook.store_url(), caplog.text]
    assert not [text for text in shown if KEY in text or "pass-of-redis" in text]


@pytest.mark.parametrize(
    "store",
    [
        "redis://:pass-of-redis@127.0.0.1:1/0",
        "redis+sentinel://127.0.0.1:1/calls?sentinel_password=pass-of-redis&durability=best-effort",
        "redis://me:x/pass-of-redis@127.0.0.1:1/0",
        "redis://me:12?pass-of-redis@127.0.0.1:1/0",
        "nosuch://me:x/pass-of-redis@127.0.0.1:1/0",
    ],
)
def test_a_password_in_the_store_of_a_connection_is_refused_and_not_shown(connect: Connect, store: str) -> None:
    connect(password=KEY, extra={"sub_account": "tests", "store": store})
    with pytest.raises(SettingsError, match="VOICEFLOW_STORE") as refused:
        VoiceFlowHook().settings()
    assert "pass-of-redis" not in str(refused.value)


def test_a_password_of_a_proxy_in_a_connection_is_refused_and_not_shown(connect: Connect) -> None:
    connect(password=KEY, extra={"sub_account": "tests", "proxy": "http://me:pass-of-proxy@127.0.0.1:1"})
    with pytest.raises(SettingsError, match="VOICEFLOW_PROXY_FILE") as refused:
        VoiceFlowHook().settings()
    assert "pass-of-proxy" not in str(refused.value)
    connect("other", password=KEY, extra={"sub_account": "tests", "proxy": "http://127.0.0.1:1"})
    assert VoiceFlowHook("other").settings().proxy == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"password": "some-other-key"}, "does not accept the API key"),
        ({"host": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"extra": {"sub_account": "tests", "store": "sqlite:////nowhere/at/all/calls.db"}}, "/nowhere/at/all"),
    ],
)
def test_a_connection_that_cannot_call_says_why(
    connect: Connect, sandbox: str, parts: dict[str, object], expected: str
) -> None:
    connect(**{"host": sandbox, "password": KEY, "extra": {"sub_account": "tests"}, **parts})
    good, message = VoiceFlowHook().test_connection()
    assert not good
    assert expected in message
    assert "some-other-key" not in message


def test_an_account_that_sends_no_summaries_is_reported(connect: Connect, sandbox: str, tmp_path: Path) -> None:
    extra = {"sub_account": "summaries", "store": f"sqlite:///{tmp_path / 'calls.db'}"}
    connect(host=sandbox, password=KEY, extra=extra)
    hook = VoiceFlowHook()

    async def register(kind: WebhookType) -> None:
        async with hook.get_client() as voice:
            await voice.register_webhook(kind, "https://calls.example.com")

    asyncio.run(register(WebhookType.CALL_ACTION))
    assert "no webhook receives session summaries" in hook.test_connection()[1]
    asyncio.run(register(WebhookType.SESSION_SUMMARY))
    good, message = hook.test_connection()
    assert good
    assert "8x8 accepts the API key" in message
    assert "no webhook" not in message
