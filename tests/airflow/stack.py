"""A whole Airflow beside a sandbox and a receiver: started once, ended with everything it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
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
DAGS = Path(__file__).parent / "dags"
ENDED = {"success", "failed"}
LIMIT = 400.0
"""Seconds that anything may take in an Airflow: a failing test ends, and a busy machine fails none."""


@dataclass
class Airflow:
    """One Airflow of its own: a home, a database, components as processes."""

    home: Path
    env: dict[str, str]
    stage: Stage
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    # -- components --------------------------------------------------------------------------------------------------

    def start(self, component: str) -> None:
        """Start a component (scheduler, triggerer, dag-processor, …) in a session of its own."""
        log = (self.home / f"{component}.log").open("ab")
        self.processes[component] = subprocess.Popen(
            [str(BIN / "airflow"), component],
            env=self.env,
            cwd=self.home,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()

    def kill(self, component: str) -> None:
        """End a component and everything it started, at once."""
        process = self.processes.pop(component)
        # The group: a SIGTERM to the parent alone leaves its children behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def end(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 15
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.1))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        mark = f"AIRFLOW_HOME={self.home}\0".encode()  # tasks have sessions of their own
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in environment.read_bytes():
                    os.kill(int(environment.parent.name), signal.SIGKILL)

    # -- the command line --------------------------------------------------------------------------------------------

    def cli(self, *arguments: str, check: bool = True) -> str:
        run = subprocess.run(
            [str(BIN / "airflow"), *arguments],
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        if check and run.returncode:
            raise AssertionError(f"airflow {' '.join(arguments)}\n{run.stdout}\n{run.stderr}")
        return run.stdout

    def trigger(self, dag_id: str, run_id: str = "one", conf: Mapping[str, object] | None = None) -> None:
        more = ["--conf", json.dumps(conf)] if conf else []
        self.cli("dags", "trigger", dag_id, "--run-id", run_id, *more)

    def mark(self, dag_id: str, task_id: str, state: str, run_id: str = "one") -> None:
        """Mark a task as its page does."""
        self._ask("PATCH", f"{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": state})

    def _ask(self, method: str, path: str, body: Mapping[str, object]) -> None:
        base = self.env["AIRFLOW__API__BASE_URL"]
        token = httpx.get(f"{base}/auth/token", **PLAIN).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{base}/api/v2/dags/{path}"
        httpx.request(method, url, json=dict(body), headers=headers, timeout=60, **PLAIN).raise_for_status()

    # -- the database ------------------------------------------------------------------------------------------------

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(query, values).fetchall()

    def run_state(self, dag_id: str, run_id: str = "one") -> str | None:
        found = self.rows("SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?", dag_id, run_id)
        return str(found[0][0]) if found else None

    def tasks(self, dag_id: str, run_id: str = "one") -> dict[str, Any]:
        """Task states by name; mapped ones as `name[index]`."""
        found = self.rows(
            "SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ? AND run_id = ?", dag_id, run_id
        )
        return {name if index < 0 else f"{name}[{index}]": state for name, index, state in found}

    def tries(self, dag_id: str, task_id: str, run_id: str = "one") -> int:
        query = "SELECT try_number FROM task_instance WHERE dag_id = ? AND task_id = ? AND run_id = ?"
        return int(self.rows(query, dag_id, task_id, run_id)[0][0])

    def xcom(self, dag_id: str, task_id: str, run_id: str = "one", key: str = "return_value") -> Any:
        query = "SELECT value FROM xcom WHERE dag_id = ? AND task_id = ? AND run_id = ? AND key = ?"
        found = self.rows(query, dag_id, task_id, run_id, key)
        if not found:
            return None
        value = json.loads(found[0][0])
        return json.loads(value) if isinstance(value, str) and value[:1] in '{["' else value

    def wait_for_run(self, dag_id: str, run_id: str = "one", *, within: float = LIMIT) -> str:
        self.wait(lambda: self.run_state(dag_id, run_id) in ENDED, f"run {run_id} of {dag_id}", within=within)
        return str(self.run_state(dag_id, run_id))

    def wait_for_task(self, dag_id: str, task_id: str, state: str, run_id: str = "one") -> None:
        self.wait(lambda: self.tasks(dag_id, run_id).get(task_id) == state, f"{dag_id}.{task_id} to be {state}")

    def wait(self, is_so: Callable[[], bool], what: str, *, within: float = LIMIT) -> None:
        """Wait for a condition of the database or the ledger."""
        wait_until(is_so, lambda: f"{what}\n{self.log_tails()}", within=within, every=0.25)

    def log_tails(self) -> str:
        """The ends of all logs, of components and of tasks."""
        paths = [*self.home.glob("*.log"), *sorted(self.home.glob("logs/dag_id=*/**/*.log"))[-6:]]
        ends = ["\n".join(path.read_text(errors="replace").splitlines()[-40:]) for path in paths]
        return "\n".join(f"--- {path}\n{end}" for path, end in zip(paths, ends, strict=True))


@contextmanager
def whole_stack(
    folder: Path,
    *,
    speed: float = 20,
    components: tuple[str, ...] = ("standalone",),
    config: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Iterator[Airflow]:
    """A receiver, a sandbox and an Airflow; everything that was started is ended with the block."""
    home = folder / "airflow"
    with stage(folder, speed=speed) as on:
        home.mkdir(parents=True, exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "VOICEFLOW_"))}
        env = {
            **clean,
            # airflow standalone and its children look for `airflow` on the PATH.
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__PARALLELISM": "6",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API__PORT": str(free_port()),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # else each deferral takes 6 s
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # else a task fails that begins after 5 s
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",  # a busy machine reads a DAG for more than 30 s
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW_CONN_VOICEFLOW_DEFAULT": connection(on.sandbox, store=on.store, **(extra or {})),
            "AIRFLOW_CONN_VOICEFLOW_WRONG": connection("http://127.0.0.1:9", password="another-key", store=on.store),
            "VOICEFLOW_TEST_FOLDER": str(home),
            "VOICEFLOW_WINDOW": "any",
            **(config or {}),
        }
        env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"http://127.0.0.1:{env['AIRFLOW__API__PORT']}/execution/"
        env["AIRFLOW__API__BASE_URL"] = f"http://127.0.0.1:{env['AIRFLOW__API__PORT']}"
        airflow = Airflow(home, env, on)
        airflow.cli("db", "migrate")
        try:
            for component in components:
                airflow.start(component)
            wanted = {"whole_way", "killed", "stopped", "timed", "alarm", "daily", "daily_in_time", "many"}
            parsed = "SELECT dag_id FROM dag WHERE NOT is_paused"
            airflow.wait(lambda: wanted <= {row[0] for row in airflow.rows(parsed)}, f"{wanted} to be parsed")
            airflow.wait(lambda: _alive(airflow) >= {"SchedulerJob", "TriggererJob"}, "the components")
            airflow.wait(lambda: _listens(int(env["AIRFLOW__API__PORT"])), "the API server")
            yield airflow
        finally:
            airflow.end()


def _alive(airflow: Airflow) -> set[str]:
    return {row[0] for row in airflow.rows("SELECT job_type FROM job WHERE state = 'running'")}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
