"""The provider in `airflow providers …`, in `airflow connections test` and in Airflow's connection form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import running
from tests.support.stage import stage

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
KEY = "a-key-that-nobody-may-see"
HELLO = """
from datetime import datetime

from airflow.sdk import DAG
from airflow_provider.operators.voice import VoiceCallOperator

with DAG("hello", schedule=None, start_date=datetime(2026, 1, 1)):
    VoiceCallOperator(
        task_id="call",
        destination="+6587654321",
        say="Hello. This is {{ dag.dag_id }}.",
        retries=2,
        deferrable=True,
        voiceflow_conn_id="voiceflow_added",
    )
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    with running("sandbox", "--port", "0", "--api-key", KEY) as process:
        yield process.wait_for(r"ready on (http://127\.0\.0\.1:\d+)")[1]


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, sandbox: str) -> dict[str, str]:
    home = tmp_path_factory.mktemp("command-line")

    def connection(password: str) -> str:
        extra = {"sub_account": "tests", "store": f"sqlite:///{home / 'calls.db'}"}
        return json.dumps({"conn_type": "voiceflow", "host": sandbox, "password": password, "extra": extra})

    env = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW_CONN_VOICEFLOW_DEFAULT": connection(KEY),
        "AIRFLOW_CONN_VOICEFLOW_WRONG": connection("some-other-key"),
        "COLUMNS": "400",
    }
    airflow(env, "db", "migrate")
    return env


def airflow(env: dict[str, str], *arguments: str) -> str:
    run = subprocess.run(
        [BIN / "airflow", *arguments], env=env, capture_output=True, text=True, timeout=240, check=False
    )
    return run.stdout + run.stderr


def test_airflow_lists_the_provider_and_tests_its_connections_without_showing_a_key(env: dict[str, str]) -> None:
    assert "voiceflow-worker" in airflow(env, "providers", "list", "--output", "json")
    assert "Connection success!" in airflow(env, "connections", "test", "voiceflow_default")
    said = airflow(env, "connections", "test", "voiceflow_wrong")
    assert "Connection failed!" in said, said
    assert "does not accept the API key" in said
    assert "some-other-key" not in said
    assert KEY not in said


def test_the_hook_is_known_by_its_connection_type_and_its_form_has_the_fields_of_the_provider() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    hook = manager.hooks["voiceflow"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_id_attribute_name) == ("8x8 Voice", "voiceflow_conn_id")
    assert hook.connection_testable
    widgets = manager.connection_form_widgets
    for name in ("sub_account", "store", "queue", "source", "voice_profile"):
        assert f"extra__voiceflow__{name}" in widgets, sorted(widgets)
    behaviour = manager.field_behaviours["voiceflow"]
    assert behaviour["relabeling"]["password"] == "API key"
    assert "login" in behaviour["hidden_fields"]


def test_a_deferred_task_of_dags_test_reads_a_connection_of_the_database(env: dict[str, str], tmp_path: Path) -> None:
    with stage(tmp_path, speed=100) as on:
        extra = {
            "sub_account": "demo",
            "store": on.store,
            "source": "+6531234567",
            "voice_profile": "en-IE-EmilyNeural",
        }
        named = ("--conn-host", on.sandbox, "--conn-password", "any-key", "--conn-extra", json.dumps(extra))
        airflow(env, "connections", "add", "voiceflow_added", "--conn-type", "voiceflow", *named)
        (tmp_path / "hello.py").write_text(HELLO, encoding="utf-8")
        dags = {"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path)}
        airflow({**env, **dags}, "dags", "reserialize")
        said = airflow({**env, **dags}, "dags", "test", "hello")
        assert "isn't defined" not in said, said
        assert [call["state"] for call in on.calls()] in (["completed"], ["unreached"]), said
