"""Stores that every host sees: allowed with executors that move tasks. Each needs its extra, and a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider.operators.voice import VoiceCallOperator
from airflow_provider.sensors.voice import VoiceOutcomeSensor
from tests.airflow.scene import LASTING, connect, context, end_call
from tests.support.postgres import PostgresServer
from tests.support.redis_server import standalone
from tests.support.stage import Stage, stage

KUBERNETES = "airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor"
DRIVERS = {"redis": "hiredis", "postgres": "psycopg"}


@contextmanager
def store_on(server: str, folder: Path) -> Iterator[str]:
    """The URL of an empty store on a server."""
    if server == "redis":
        redis = standalone(folder / "redis").start()
        try:
            yield redis.url
        finally:
            redis.kill()
    else:
        postgres = PostgresServer()
        try:
            yield postgres.start().url()
        finally:
            postgres.close()


@pytest.fixture(params=sorted(DRIVERS))
def on(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    if find_spec(DRIVERS[request.param]) is None:
        pytest.skip(f"the extra {request.param} is not installed")
    with store_on(request.param, tmp_path) as store, stage(tmp_path, store=store, speed=100) as staged:
        # A URL with a user is not for the extra, which Airflow shows.
        connect(monkeypatch, staged, store=None)
        monkeypatch.setenv("VOICEFLOW_STORE", store)
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", KUBERNETES)
        yield staged


def test_a_call_is_made_once_wherever_its_tries_run(on: Stage) -> None:
    on.order("script", {"destination": "+6587668001", **LASTING})
    given: dict[str, Any] = {"task_id": "t", "destination": "+6587668001", "say": "Hello.", "poll_interval": 0.2}
    with pytest.raises(TaskDeferred):
        VoiceCallOperator(**given, deferrable=True).execute(context("moved"))
    end_call(on, "+6587668001")
    call = VoiceCallOperator(**given, deferrable=False).execute(context("moved"))
    assert call["state"] == "completed"
    assert len(on.ledger()) == 1
    report = VoiceOutcomeSensor(task_id="s", batch_id=call["batch_id"], deferrable=False).execute(context())
    assert report["states"]["completed"] == 1
