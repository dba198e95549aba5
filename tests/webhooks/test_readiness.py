"""Ready is who could take a summary now; alive is who answers at all."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from tests.webhooks.receiving import SECRET, Settling, posting
from voiceflow_worker import open_store
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.webhooks import receiver_app, webhook_app
from voiceflow_worker.webhooks.readiness import Readiness

pytestmark = pytest.mark.anyio


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
