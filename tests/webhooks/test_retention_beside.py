"""A receiver deletes what is over, also where no worker runs, and the uploads of people who were erased."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.flows import flow
from tests.support.waiting import until
from voiceflow_worker import CallPolicy, CallQueue, open_store, receiver_app
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.service import forget as forgetting
from voiceflow_worker.service.uploads import delete_left_over, upload_folder

pytestmark = pytest.mark.anyio
POLICY = CallPolicy()


async def test_a_receiver_deletes_the_old_calls_of_a_queue_without_a_worker() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        queue = CallQueue(store, "offers", policy=POLICY)
        await queue.cancel((await queue.enqueue(flow())).id)
        clock.jump(POLICY.retention + timedelta(hours=1))
        app = receiver_app(store, secret=None, policy=POLICY)
        async with app.router.lifespan_context(app):

            async def is_gone() -> bool:
                return (await queue.status()).total == 0

            await until(is_gone)


async def test_uploads_of_an_erased_person_go_from_the_pages_and_those_of_dead_processes_from_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = upload_folder()
    dead = mine.with_name("voiceflow-upload-999999999-abc")
    dead.mkdir()
    assert delete_left_over() == 1
    assert (mine.exists(), dead.exists()) == (True, False)
    calls: list[int] = []
    async with open_store("memory://") as store:
        await CallQueue(store).enqueue(flow())
        await forgetting.forget(store, "+6587654321")
        app = receiver_app(store, secret=None, ui_secret="a-secret")
        monkeypatch.setattr("voiceflow_worker.webhooks.serving.delete_left_over", lambda: calls.append(1))
        async with app.router.lifespan_context(app):
            await until(lambda: bool(calls))
