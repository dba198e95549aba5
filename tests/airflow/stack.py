"""A whole Airflow beside a sandbox and a receiver: started once, ended with everything it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.airflow.scene import connection
from tests.support.redis_server import free_port
from tests.support.stage import PLAIN, Stage, stage
from tests.support.waiting import wait_until

BIN = Path(sys.executable).parent
COMPONENTS = ("api-server", "scheduler", "triggerer", "dag-processor")
DAG_IDS = {"whole_way", "killed", "stopped", "timed", "daily", "daily_in_time", "many"}
LIMIT = 400.0
"""Seconds that anything may take in an Airflow: a failing test ends, and a busy machine fails none."""
CONFIGURATION = {
    "CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "CORE__PARALLELISM": "6",
    "CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "API__WORKERS": "1",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # else each deferral takes 6 s
    "WORKERS__EXECUTION_API_TIMEOUT": "60",  # else a task fails that begins after 5 s
    "CORE__DAGBAG_IMPORT_TIMEOUT": "300",  # a busy machine reads a DAG for more than 30 s
    "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",  # from here on: a killed component is soon noticed
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "USAGE_DATA_COLLECTION__ENABLED": "False",
}


@dataclass
class Airflow:
    """One Airflow of its own: a home, a database, components as processes."""

    home: Path
    env: dict[str, str]
    stage: Stage
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, component: str) -> None:
        """Start a component in a session of its own."""
        command = [str(BIN / "airflow"), component]
        with (self.home / f"{component}.log").open("ab") as log:
            self.processes[component] = subprocess.Popen(
                command, env=self.env, cwd=self.home, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, component: str) -> None:
        """End a component and everything it started, at once."""
        process = self.processes.pop(component)
        # The group: a SIGTERM to the parent alone leaves its children behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def end(self) -> None:
        for component in [*self.processes]:
            self.kill(component)
        mark = f"AIRFLOW_HOME={self.home}\0".encode()  # tasks have sessions of their own
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in environment.read_bytes():
                    os.kill(int(environment.parent.name), signal.SIGKILL)

    def cli(self, *arguments: str, check: bool = True) -> None:
        command = [str(BIN / "airflow"), *arguments]
        run = subprocess.run(
            command, env=self.env, cwd=self.home, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert not (check and run.returncode), f"airflow {' '.join(arguments)}\n{run.stdout}\n{run.stderr}"

    def trigger(self, dag_id: str) -> None:
        self.cli("dags", "trigger", dag_id, "--run-id", "one")

    def mark(self, dag_id: str, task_id: str, state: str) -> None:
        """Mark a task as its page does."""
        base = self.env["AIRFLOW__API__BASE_URL"]
        token = httpx.get(f"{base}/auth/token", **PLAIN).json()["access_token"]
        url = f"{base}/api/v2/dags/{dag_id}/dagRuns/one/taskInstances/{task_id}"
        headers = {"Authorization": f"Bearer {token}"}
        httpx.patch(url, json={"new_state": state}, headers=headers, timeout=60, **PLAIN).raise_for_status()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(query, values).fetchall()

    def tasks(self, dag_id: str) -> dict[str, Any]:
        """Task states by name; mapped ones as `name[index]`."""
        found = self.rows("SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ?", dag_id)
        return {name if index < 0 else f"{name}[{index}]": state for name, index, state in found}

    def tries(self, dag_id: str, task_id: str) -> int:
        query = "SELECT try_number FROM task_instance WHERE dag_id = ? AND task_id = ?"
        return int(self.rows(query, dag_id, task_id)[0][0])

    def xcom(self, dag_id: str, task_id: str) -> Any:
        query = "SELECT value FROM xcom WHERE dag_id = ? AND task_id = ? AND key = 'return_value'"
        value = json.loads(self.rows(query, dag_id, task_id)[0][0])
        return json.loads(value) if isinstance(value, str) else value

    def wait_for_run(self, dag_id: str, run_id: str = "one", *, within: float = LIMIT) -> str:
        query, found = "SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?", list[str]()

        def has_ended() -> bool:
            found[:] = [str(state) for (state,) in self.rows(query, dag_id, run_id)]
            return not {"success", "failed"}.isdisjoint(found)

        self.wait(has_ended, f"run {run_id} of {dag_id}", within=within)
        return found[0]

    def wait_for_task(self, dag_id: str, task_id: str, state: str) -> None:
        self.wait(lambda: self.tasks(dag_id).get(task_id) == state, f"{dag_id}.{task_id} to be {state}")

    def wait(self, is_so: Callable[[], bool], what: str, *, within: float = LIMIT) -> None:
        """Wait for a condition of the database or the ledger."""
        wait_until(is_so, lambda: f"{what}\n{self.log_tails()}", within=within, every=0.25)

    def log_tails(self) -> str:
        """The ends of all logs, of components and of tasks."""
        paths = [*self.home.glob("*.log"), *sorted(self.home.glob("logs/dag_id=*/**/*.log"))[-6:]]
        ends = ["\n".join(path.read_text(errors="replace").splitlines()[-40:]) for path in paths]
        return "\n".join(f"--- {path}\n{end}" for path, end in zip(paths, ends, strict=True))


@contextmanager
def whole_stack(folder: Path, settings: Mapping[str, str]) -> Iterator[Airflow]:
    """A receiver, a sandbox and an Airflow; everything that was started is ended with the block."""
    home, port = folder / "airflow", free_port()
    home.mkdir()
    with stage(folder, speed=40) as on:
        base = f"http://127.0.0.1:{port}"
        own = {
            "CORE__EXECUTION_API_SERVER_URL": f"{base}/execution/",
            "API__BASE_URL": base,
            "API__PORT": str(port),
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        }
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "VOICEFLOW_"))},
            # Airflow's children look for `airflow` on the PATH.
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "AIRFLOW_HOME": str(home),
            **{f"AIRFLOW__{name}": value for name, value in {**CONFIGURATION, **own}.items()},
            "AIRFLOW_CONN_VOICEFLOW_DEFAULT": connection(on.sandbox, store=on.store),
            "VOICEFLOW_TEST_FOLDER": str(home),
            "VOICEFLOW_WINDOW": "any",
            **settings,
        }
        airflow = Airflow(home, env, on)
        airflow.cli("db", "migrate")
        try:
            for component in COMPONENTS:
                airflow.start(component)
            for what, wanted in (
                ("dag_id FROM dag WHERE NOT is_paused", DAG_IDS),
                ("job_type FROM job WHERE state = 'running'", {"SchedulerJob", "TriggererJob"}),
            ):
                query = f"SELECT {what}"
                airflow.wait(lambda query=query, wanted=wanted: wanted <= {row[0] for row in airflow.rows(query)}, what)  # type: ignore[misc]
            airflow.wait(lambda: _listens(base), "the API server")
            yield airflow
        finally:
            airflow.end()


def _listens(base: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(base, **PLAIN).status_code > 0
    return False
