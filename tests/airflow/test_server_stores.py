"""Stores that every host sees: allowed with executors that move tasks. Each needs its extra, and a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from airflow_provider.sensors.voice import VoiceOutcomeSensor
from tests.airflow.scene import LASTING, connect, context, end_call
from tests.support.postgres import ADMINISTRATOR, DATABASE, PostgresServer
from tests.support.redis_server import standalone
from tests.support.stage import Stage, stage
from voiceflow_worker import CallQueue, Job, open_store

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


def test_people_of_postgresql_are_read_as_cells_of_a_file_are(tmp_path: Path, connect: Callable[..., None]) -> None:
    hooks = pytest.importorskip("airflow.providers.postgres.hooks.postgres", exc_type=ImportError)
    server = PostgresServer()
    try:
        server.start()
        place = {"host": "127.0.0.1", "port": server.port, "login": ADMINISTRATOR, "schema": DATABASE}
        connect("people", conn_type="postgres", **place)
        usual = {"source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
        extra = {"sub_account": "tests", "store": f"sqlite:///{tmp_path / 'calls.db'}", **usual}
        connect(host="http://127.0.0.1:9", password="a-key", extra=extra)
        columns = "phone text, name text, visit date, owed numeric(10,2), rooms int, note text"
        row = "INSERT INTO visits VALUES ('9123 4567', 'Jörg', '2099-01-31', 12.50, 3, NULL)"
        hooks.PostgresHook(postgres_conn_id="people").run([f"CREATE TABLE visits ({columns})", row])
        report = VoiceCampaignOperator(
            task_id="t", send="worker", wait_for=None, deferrable=False, conn_id="people", country="SG",
            sql="SELECT * FROM visits WHERE visit >= %(day)s", parameters={"day": "2099-01-01"},
            columns={"destination": "phone"},
            say="{{ name }}, {{ visit|date }}, {{ owed }}, {{ rooms }}.",
        ).execute(context("visits"))  # fmt: skip
    finally:
        server.close()
    assert report["total"] == 1

    async def found() -> list[Job]:
        async with open_store(f"sqlite:///{tmp_path / 'calls.db'}") as store:
            return list(await CallQueue(store).find())

    (job,) = anyio.run(found)
    assert (job.destination, "Jörg, 31 January 2099, 12.50, 3." in job.body) == ("+6591234567", True)
