"""The connection as settings, as a client, as a store; and the test of a connection."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from airflow.models.connection import Connection
from airflow.sdk import BaseHook

from airflow_provider.hooks.voice import VoiceFlowHook
from tests.support.processes import running
from voiceflow_worker import InvalidInputError
from voiceflow_worker.errors import SettingsError

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
        ({"host": "127.0.0.1", "schema": "http", "port": 8088}, {"base_url": "http://127.0.0.1:8088"}),
    ):
        connect(password=KEY, **parts)
        settings = VoiceFlowHook().settings()
        assert settings.api_key is not None
        assert settings.api_key.get_secret_value() == KEY
        assert KEY not in repr(settings)
        assert {name: getattr(settings, name) for name in found} == found


PAGE = Path(__file__).resolve().parents[2] / "docs" / "start-airflow.md"
PRINTED = re.findall(r"export AIRFLOW_CONN_VOICEFLOW_DEFAULT='([^']+)'", PAGE.read_text("utf-8"))


def test_connections_work_as_the_pages_and_airflow_print_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PRINTED
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
    for text in ("store=sqlite:////tmp/x.db", "[1]", twice):
        connection = {"conn_type": "voiceflow", "password": KEY, "extra": text}
        monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
        with pytest.raises(SettingsError, match="connection other: its extra is not a JSON object"):
            VoiceFlowHook("other").settings()
    for extra, expected in (
        ({"queue": "No Queue"}, "queue"),
        ({"api_key": "x"}, "password"),
        ({"store": "nosuch://me:x/a-secret@127.0.0.1:1/0"}, "VOICEFLOW_STORE"),
    ):
        connect("other", password=KEY, extra=extra)
        with pytest.raises(SettingsError, match=r"connection other: (?s:.*)" + expected) as refused:
            VoiceFlowHook("other").settings()
        assert "a-secret" not in str(refused.value)
    connect(extra={"sub_account": "tests"})
    with pytest.raises(SettingsError, match="API key"):
        VoiceFlowHook().get_conn()


@pytest.mark.parametrize(
    ("parts", "is_good", "found"),
    [
        ({}, True, "8x8 accepts the API key"),
        ({"password": "some-other-key"}, False, "401"),
        ({"host": "http://127.0.0.1:9"}, False, "127.0.0.1 cannot be reached"),
        ({"extra": {"sub_account": "tests", "store": "sqlite:////nowhere/at/all/calls.db"}}, False, "/nowhere/at/all"),
    ],
)
def test_the_test_of_a_connection_says_what_is_wrong(  # noqa: PLR0917
    connect: Connect, sandbox: str, tmp_path: Path, parts: dict[str, object], is_good: bool, found: str
) -> None:
    extra = {"sub_account": "tests", "store": f"sqlite:///{tmp_path / 'calls.db'}"}
    connect(**{"host": sandbox, "password": KEY, "extra": extra, **parts})
    good, message = VoiceFlowHook().test_connection()
    assert (good, found in message, "some-other-key" in message) == (is_good, True, False), message


CELERY = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"
FILE = "sqlite:////data/calls.db"


@pytest.mark.parametrize(
    ("store", "executor", "allowed", "is_refused"),
    [
        (FILE, CELERY, "", True),
        (FILE, "LocalExecutor,mine:my.module.EdgeExecutor", "no", True),
        (FILE, CELERY, "true", False),
        (FILE, "here:airflow.executors.local_executor.LocalExecutor", "", False),
        ("memory://", "LocalExecutor", "true", True),
    ],
)
def test_a_store_that_the_next_try_may_not_find_is_refused(  # noqa: PLR0917
    connect: Connect, monkeypatch: pytest.MonkeyPatch, store: str, executor: str, allowed: str, is_refused: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    connect(password=KEY, extra={"sub_account": "tests", "store": store, "allow_local_store": allowed})
    with pytest.raises(InvalidInputError, match="may not find the store") if is_refused else nullcontext():
        VoiceFlowHook().require_lasting_store()
