"""The connection as settings, as a client, as a store; and the test of a connection."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from airflow.models.connection import Connection
from airflow.sdk import DAG, BaseHook

from airflow_provider.hooks.voice import VoiceFlowHook, require_lasting
from airflow_provider.operators.voice import VoiceCallOperator
from tests.support.processes import running
from voiceflow_worker import InvalidInputError
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.types import WebhookType

KEY = "a-key-that-nobody-may-see"
Connect = Callable[..., None]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    with running("sandbox", "--port", "0", "--api-key", KEY) as process:
        yield process.wait_for(r"ready on (http://127\.0\.0\.1:\d+)")[1]


def test_the_connection_becomes_settings_and_the_environment_completes_it(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_SOURCE", "+6531234567")
    named = {"sub_account": "tests", "store": "sqlite:////tmp/x.db", "queue": "calls"}
    digits = Connection(uri="voiceflow://:a-key@voice.test/https?sub_account=1234&queue=77&rate=2.5&max_active=10")
    assert '"sub_account": 1234' in digits.extra, "as Airflow stores it"
    for parts, found in (
        ({"extra": named}, {**named, "source": "+6531234567"}),
        ({"extra": json.loads(digits.extra)}, {"sub_account": "1234", "queue": "77", "rate": 2.5, "max_active": 10}),
        ({"extra": {"proxy": "http://127.0.0.1:1"}}, {"proxy": "http://127.0.0.1:1"}),
        ({"host": "http://127.0.0.1:8088"}, {"base_url": "http://127.0.0.1:8088"}),
        ({"host": "voice.us.8x8.com"}, {"base_url": "https://voice.us.8x8.com"}),
        ({"host": "127.0.0.1", "schema": "http", "port": 8088}, {"base_url": "http://127.0.0.1:8088"}),
        ({}, {"base_url": None}),
    ):
        connect(password=KEY, **parts)
        settings = VoiceFlowHook().settings()
        assert settings.api_key is not None
        assert settings.api_key.get_secret_value() == KEY
        assert {name: getattr(settings, name) for name in found} == found


def test_the_logs_of_a_task_show_no_whole_number_with_log_mask(
    connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    was, hook = structlog.get_config(), sys.excepthook
    chain = list(was["processors"])
    logs = [structlog.get_logger("task"), logging.getLogger("airflow_provider.calls.waiting")]
    try:
        structlog.configure(processors=chain)
        logs[0].info("before")
        connect(password=KEY, extra={"sub_account": "tests", "store": "sqlite:////tmp/x.db", "log_mask": "yes"})
        VoiceFlowHook().settings()
        for log in logs:
            try:
                raise ValueError("+6581234567 is in doubt")
            except ValueError:
                log.exception("call to %s failed", "+6581234567")
    finally:
        structlog.configure(**was)
        sys.excepthook = hook
    told = "".join(capsys.readouterr())
    assert "call to +65******67 failed" in told
    assert "81234567" not in told


PAGE = Path(__file__).resolve().parents[2] / "docs" / "airflow.md"
PRINTED = re.findall(r"export AIRFLOW_CONN_VOICEFLOW_DEFAULT='([^']+)'", PAGE.read_text("utf-8"))


def test_connections_work_as_the_pages_and_airflow_print_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(PRINTED) == 2
    for value in PRINTED:
        monkeypatch.setenv("AIRFLOW_CONN_VOICEFLOW_DEFAULT", value)
        shown = BaseHook.get_connection("voiceflow_default").get_uri()
        settings = VoiceFlowHook().settings()
        assert settings.api_key is not None
        assert (settings.base_url, settings.api_key.get_secret_value()) == ("http://127.0.0.1:8088", "any-key")
        assert settings.store.startswith("sqlite:////tmp/")
        assert (settings.source, settings.voice_profile) == ("+6531234567", "en-IE-EmilyNeural")
        monkeypatch.setenv("AIRFLOW_CONN_VOICEFLOW_DEFAULT", shown)
        assert VoiceFlowHook().settings() == settings


def test_an_error_in_a_connection_names_it_and_shows_no_password(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = '{"store": "sqlite:////tmp/x.db", "store": "sqlite:////tmp/y.db"}'
    for text in ('{"store": "sqlite:////tmp/x.db"', "store=sqlite:////tmp/x.db", "[1]", '"x"', "null", twice):
        connection = {"conn_type": "voiceflow", "password": KEY, "extra": text}
        monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
        with pytest.raises(SettingsError, match="connection other: its extra is not a JSON object"):
            VoiceFlowHook("other").settings()
    for extra, expected in (
        ({"queue": "No Queue"}, "queue"),
        ({"sub_acount": "x"}, "sub"),
        ({"api_key": "x"}, "password"),
        ({"region": "sg"}, r"region is 'sg' \(the connection\)"),
        ({"store": "redis://:a-secret@127.0.0.1:1/0"}, "VOICEFLOW_STORE"),
        ({"store": "nosuch://me:x/a-secret@127.0.0.1:1/0"}, "VOICEFLOW_STORE"),
        ({"proxy": "http://me:a-secret@127.0.0.1:1"}, "VOICEFLOW_PROXY_FILE"),
    ):
        connect("other", password=KEY, extra=extra)
        with pytest.raises(SettingsError, match=r"connection other: (?s:.*)" + expected) as refused:
            VoiceFlowHook("other").settings()
        assert "a-secret" not in str(refused.value)
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


def test_a_connection_that_cannot_call_says_why(connect: Connect, sandbox: str) -> None:
    nowhere = {"sub_account": "tests", "store": "sqlite:////nowhere/at/all/calls.db"}
    for parts, expected in (
        ({"password": "some-other-key"}, "does not accept the API key"),
        ({"host": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"extra": nowhere}, "/nowhere/at/all"),
    ):
        connect(**{"host": sandbox, "password": KEY, "extra": {"sub_account": "tests"}, **parts})
        good, message = VoiceFlowHook().test_connection()
        assert (good, expected in message, "some-other-key" in message) == (False, True, False), message


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


CELERY = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"
FILE = "sqlite:////data/calls.db"


def test_a_store_that_the_next_try_may_not_read_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    for executor in (CELERY, f"LocalExecutor;team1={CELERY}", "LocalExecutor,mine:my.module.EdgeExecutor", "their.Own"):
        with pytest.raises(InvalidInputError, match="another host"):
            require_lasting(FILE, executor=executor, allowed=False)
        require_lasting(FILE, executor=executor, allowed=True)
        require_lasting("redis://host/0", executor=executor, allowed=False)
    for one_host in ("LocalExecutor", "here:airflow.executors.local_executor.LocalExecutor", ""):
        require_lasting(FILE, executor=one_host, allowed=False)
    for allowed in (False, True):
        with pytest.raises(InvalidInputError, match="loses every call"):
            require_lasting("memory://", executor="LocalExecutor", allowed=allowed)
    assert "relative to the working directory" not in caplog.text
    require_lasting("sqlite:///calls.db", executor="LocalExecutor", allowed=False)
    assert "relative to the working directory" in caplog.text


def test_the_recipes_are_of_the_day_of_the_run_with_a_logical_date_and_without() -> None:
    texts = re.findall(r'(?:valid_until|"day").{1,4}"({{[^"]+}})"', PAGE.read_text("utf-8"))
    assert len(texts) >= 2
    with DAG("recipes", schedule=None):
        task = VoiceCallOperator(task_id="call", destination="+6587654321", say="Hello.")
    ordered, day = datetime(2026, 11, 27, 16, tzinfo=UTC), datetime(2026, 11, 28, 9, tzinfo=UTC)
    for run in (
        SimpleNamespace(logical_date=None, run_after=day),
        SimpleNamespace(logical_date=day, run_after=ordered),  # a run that was ordered on the day before
    ):
        here: Any = {"dag_run": run, "macros": SimpleNamespace(timedelta=timedelta)}
        assert {task.render_template(text, here) for text in texts} == {"2026-11-28", "2026-11-28 19:00:00+00:00"}
