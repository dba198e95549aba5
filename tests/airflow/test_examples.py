"""The example DAGs, run by `dag.test()`."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.scene import rings
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "dags"
BIN = Path(sys.executable).parent

RUN = """
import importlib, json, os, sys
sys.path.insert(0, os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
dag = importlib.import_module(sys.argv[1]).dag
dag_run = dag.test(run_conf=json.loads(sys.argv[2]))
states = {f"{ti.task_id}[{ti.map_index}]": str(ti.state) for ti in dag_run.get_task_instances()}
print("RESULT", json.dumps({"state": str(dag_run.state), "tasks": states}))
"""


@pytest.fixture(scope="module")
def env(on: Stage) -> dict[str, str]:
    env = {
        **os.environ,
        "PYTHONPATH": str(EXAMPLES.parents[1]),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    subprocess.run([BIN / "airflow", "db", "migrate"], env=env, check=True, capture_output=True, timeout=180)
    return env


def dag_test(env: dict[str, str], name: str, **conf: object) -> dict[str, Any]:
    """Run an example to its end."""
    command = [sys.executable, "-W", "ignore", "-c", RUN, name, json.dumps(conf)]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    _, mark, result = run.stdout.rpartition("RESULT ")
    assert mark, run.stdout + run.stderr
    return {**json.loads(result.splitlines()[0]), "said": run.stdout + run.stderr}


def test_daily_reminders(on: Stage, env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "appointments.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE appointments (phone TEXT, name TEXT, at TEXT)")
        people = [(f"+658766400{place}", f"Customer {place}", "10:00") for place in range(3)]
        database.executemany("INSERT INTO appointments VALUES (?, ?, ?)", people)
    on.order("script", [{"destination": phone, "outcome": "COMPLETED"} for phone, _, _ in people])
    result = dag_test(env, "daily_reminders", database=str(file))
    assert result["state"] == "success", result["said"]
    assert rings(on, *(phone for phone, _, _ in people)) == [1, 1, 1]


def test_on_call_alert(on: Stage, env: dict[str, str]) -> None:
    for number, keys in (("+6587664011", [None]), ("+6587664012", ["1"])):
        on.order("script", {"destination": number, "outcome": "COMPLETED", "keys": keys})
    people = [f"+658766401{place}" for place in (1, 2, 3)]
    result = dag_test(env, "on_call_alert", on_call=people, break_down=True)
    assert result["state"] == "failed", result["said"]
    with on.worker():
        wait_until(lambda: rings(on, *people)[:2] == [1, 1], "the second to be called", within=60)
    assert rings(on, people[2]) == [0]


@pytest.mark.parametrize(("key", "sent"), [("1", "success"), ("2", "skipped")])
def test_approval_by_phone(on: Stage, env: dict[str, str], key: str, sent: str) -> None:
    number = f"+658766402{key}"
    on.order("script", {"destination": number, "outcome": "COMPLETED", "keys": [key]})
    result = dag_test(env, "approval_by_phone", approver=number)
    assert result["tasks"]["send_invoices[-1]"] == sent, result["said"]
    assert rings(on, number) == [1]
