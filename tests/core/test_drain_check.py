"""When a drain is over, while other workers take jobs of the same queue."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow
from voiceflow_worker import CallPolicy, CallQueue, open_store
from voiceflow_worker.core.overview.drain import DrainCheck

pytestmark = pytest.mark.anyio


async def test_a_drain_goes_on_while_another_worker_has_the_job_that_was_due_a_moment_ago() -> None:
    async with open_store("memory://") as store:
        await CallQueue(store).enqueue(flow())

        async def other_leases(call: StoreCall) -> None:
            if call.name == "totals":
                now = store.clock.now()
                await store.lease("default", worker_id="other", limit=1, until=now + timedelta(minutes=1), now=now)

        watched = FaultyStore(store, after=other_leases)
        check = DrainCheck(watched, queue="default", batch_id=None, policy=CallPolicy())
        assert not await check.is_done()
