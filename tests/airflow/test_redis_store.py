"""A store that every host sees: allowed with executors that move tasks. Needs the extra `redis`, and a server."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider.operators.voice import VoiceCallOperator
from airflow_provider.sensors.voice import VoiceOutcomeSensor
from tests.airflow.scene import LASTING, connect, context, end_call
from tests.support.redis_server import standalone
from tests.support.stage import Stage, stage

pytestmark = pytest.mark.skipif(find_spec("hiredis") is None, reason="the extra redis is not installed")

KUBERNETES = "airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor"


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    server = standalone(tmp_path / "redis").start()
    try:
        with stage(tmp_path, store=server.url, speed=100) as staged:
            connect(monkeypatch, staged)
            monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", KUBERNETES)
            yield staged
    finally:
        server.kill()


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
