"""A receiver deletes what is over, also where no worker runs, and the uploads of people who were erased."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.contract.suite import ManualClock
from tests.support.flows import flow
from tests.support.waiting import until
from tests.webhooks.receiving import receiver_of
from voiceflow_worker import CallPolicy, CallQueue, open_store
from voiceflow_worker.service import forget as forgetting
from voiceflow_worker.service.uploads import Uploads, uploading

pytestmark = pytest.mark.anyio
POLICY = CallPolicy()


async def test_a_receiver_deletes_the_old_calls_of_a_queue_without_a_worker() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        queue = CallQueue(store, "offers", policy=POLICY)
        await queue.cancel((await queue.enqueue(flow())).id)
        clock.jump(POLICY.retention + timedelta(hours=1))
        async with receiver_of(store).running():

            async def is_gone() -> bool:
                return (await queue.status()).total == 0

            await until(is_gone)


async def test_uploads_of_an_erased_person_go_from_the_store_and_those_of_dead_processes_from_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with open_store("memory://") as store:
        uploads = Uploads(store)
        kept = await uploads.keep(b"destination\n+6587654321\n", name="people.csv", owner="Li")
        await CallQueue(store).enqueue(flow())
        with uploading() as mine:
            dead = mine.with_name("voiceflow-upload-999999999-abc")
            dead.mkdir()
            await forgetting.forget(store, "+6587654321")
            assert (mine.exists(), dead.exists()) == (True, False)
        assert not mine.exists()
        dead.mkdir()
        async with receiver_of(store).running():
            assert not dead.exists(), "a receiver that begins deletes them too"
        assert (await uploads.find(kept.id, owner="Li"), await uploads.content(kept)) == (None, None)
