"""Ready is who could take a summary now; alive is who answers at all."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import anyio
import apsw
import pytest

from tests.webhooks.receiving import SECRET, Settling, posting
from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.webhooks import receiver_app, webhook_app
from voiceflow_worker.webhooks.readiness import Readiness

pytestmark = pytest.mark.anyio


async def test_a_receiver_whose_store_answers_is_ready(store: Store) -> None:
    async with posting(receiver_app(store, secret=SECRET)) as sender:
        answer = await sender.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_store_that_is_away_is_reported_in_a_sentence_and_liveness_is_not_touched() -> None:
    async def probe() -> None:
        raise StoreUnavailableError("the file is locked")

    async with posting(webhook_app(Settling(), secret=SECRET, probe=probe)) as sender:
        answer = await sender.client.get("/readyz")
        assert (await sender.client.get("/healthz")).status_code == 200
    assert (answer.status_code, answer.json()) == (503, {"error": "the store cannot be used: the file is locked"})


async def test_a_file_that_another_process_has_locked_is_not_ready(tmp_path: Path) -> None:
    """Reading would go on all the while: only who can write can take a summary."""
    path = tmp_path / "calls.db"
    async with open_store(f"sqlite:///{path}") as store, posting(receiver_app(store, secret=SECRET)) as sender:
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        answer = await sender.client.get("/readyz")
        other.execute("ROLLBACK")
        other.close()
    assert (answer.status_code, answer.json()) == (503, {"error": "the store did not answer within 1 s"})


async def test_a_store_that_hangs_is_not_ready() -> None:
    readiness = Readiness(anyio.sleep_forever, within=timedelta(milliseconds=50))
    with anyio.fail_after(20):
        assert await readiness.why_not() == "the store did not answer within 0.05 s"


async def test_whoever_asks_often_does_not_cost_the_store_more() -> None:
    asked: list[None] = []

    async def probe() -> None:
        asked.append(None)
        await anyio.lowlevel.checkpoint()

    readiness = Readiness(probe, within=timedelta(seconds=20))
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(readiness.why_not)
    assert len(asked) == 1


async def test_a_store_that_comes_back_is_ready_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.webhooks.readiness.FRESH", 0.0)
    away = [True]

    async def probe() -> None:
        if away.pop():
            raise StoreUnavailableError("locked")

    readiness = Readiness(probe)
    assert await readiness.why_not() is not None
    away.append(False)
    assert await readiness.why_not() is None


async def test_without_a_probe_it_is_ready() -> None:
    async with posting(webhook_app(Settling(), secret=SECRET)) as sender:
        assert (await sender.client.get("/readyz")).status_code == 200


async def test_the_metrics_can_be_left_to_the_app_around() -> None:
    async with posting(webhook_app(Settling(), secret=SECRET, metrics=False)) as sender:
        assert (await sender.client.get("/metrics")).status_code == 404
        assert (await sender.send()).status_code == 200
