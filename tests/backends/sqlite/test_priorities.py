"""Priorities that earlier versions took are leased, whatever they are."""

from __future__ import annotations

from datetime import timedelta

import pytest

from voiceflow_worker import open_store
from voiceflow_worker.backends.contract.samples import NOW, QUEUE, sample_job

pytestmark = pytest.mark.anyio


async def test_the_largest_number_of_all_goes_first(tmp_path: object) -> None:
    wanted = [2**63 - 1, 2**63 - 2, 0, -(2**63)]
    async with open_store(f"sqlite:///{tmp_path}/calls.db") as store:
        await store.jobs.enqueue([sample_job(place, priority=each) for place, each in enumerate(wanted)], now=NOW)
        leased = await store.jobs.lease(QUEUE, worker_id="w", limit=9, lease_for=timedelta(minutes=1), now=NOW)
        assert [job.priority for job in leased] == wanted
        await store.jobs.enqueue([sample_job(9, priority=2**63 - 1, batch_id="b")], now=NOW)
        of_batch = await store.jobs.lease(
            QUEUE, worker_id="w", limit=9, lease_for=timedelta(minutes=1), now=NOW, batch_id="b"
        )
        assert len(of_batch) == 1
