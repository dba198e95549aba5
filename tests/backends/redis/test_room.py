"""The memory that a store takes in Redis: many jobs at once, and nothing once they are deleted."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.contract.samples import add_jobs, commit, delete, new_job
from tests.contract.suite import NOW, QUEUE, moved, sample_job
from tests.support.flows import flow, number
from tests.support.redis_server import RedisServer
from voiceflow_worker import CallQueue, CallRequest
from voiceflow_worker.backends import open_store
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports import Event, EventKind
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)

LASTING = {
    "{voiceflow}:schema",
    "{voiceflow}:id",
    "{voiceflow}:made",
    "{voiceflow}:history",
    "{voiceflow}:sequence",
    "{voiceflow}:queue:default:changes",
    "{voiceflow}:queue:default:wake",
    "{voiceflow}:queue:default:sequence",
}
"""What is left of a store when all jobs, records and events are gone: counters, the schema and the id."""


def recommended_settings() -> str:
    """The settings of Redis that the page about stores recommends."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "stores.md").read_text(encoding="utf-8")
    first = "appendonly yes\n"
    return first + page.partition(f"```\n{first}")[2].partition("```")[0]


def used_memory(server: RedisServer) -> int:
    info = str(server.ask("INFO", "memory"))
    return int(info.partition("used_memory:")[2].split()[0])


async def test_everything_goes_when_everything_is_deleted(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:
        jobs = [
            sample_job(
                number,
                priority=number % 3,
                batch_id=f"batch-{number % 4}" if number % 4 else None,
                unique_key=f"key-{number}" if number % 2 else None,
                valid_until=NOW + HOUR * (number % 3) if number % 3 else None,
            )
            for number in range(300)
        ]
        await add_jobs(store, jobs)
        leased = await store.lease(QUEUE, worker_id="w", limit=120, until=NOW + HOUR, now=NOW)
        events = [Event(job_id=job.id, kind=EventKind.ENDED, at=NOW, state=job.state, revision="r") for job in leased]
        sent = [moved(job, event, state=JobState.SENDING, active_until=NOW + HOUR)
                for job, event in zip(leased, events, strict=True)]  # fmt: skip
        await commit(store, sent)
        await commit(store, [moved(new_job(write), state=JobState.IN_DOUBT) for write in sent[:40]])
        await commit(store,
            [moved(new_job(write), state=JobState.QUEUED, active_until=None, priority=9, batch_id="new",
                   destination="+1", valid_until=NOW + 9 * HOUR) for write in sent[40:80]]
        )  # fmt: skip
        # Some are found to have expired by a lease that comes late.
        await store.lease(QUEUE, worker_id="w", limit=100, until=NOW + 2 * HOUR + HOUR, now=NOW + 2 * HOUR)
        puts = tuple(Put("number", f"n{n}", "v", NOW + HOUR) for n in range(100))
        await store.write(BulkWrite(writes=(Write(puts=puts),)), now=NOW)

        left = await find_jobs(store, Listing(queue=QUEUE, limit=None))
        assert len(left) == 300
        assert all(await delete(store, left, keep_keys_until=NOW + HOUR))
        later = NOW + HOUR
        assert await store.prune(QUEUE, now=later, events_before=later, limit=999) == 120 + 100 + 150
    assert set(redis_server.ask("KEYS", "*")) == LASTING  # type: ignore[call-overload]


async def test_with_the_recommended_settings_a_waiting_call_takes_at_most_one_and_a_half_kilobytes(
    tmp_path: Path,
) -> None:
    """In the wheel's Redis 6.2. What other servers take is measured, and stands in docs/scale.md."""
    settings = tmp_path / "redis.conf"
    settings.write_text(recommended_settings())
    server = RedisServer(tmp_path, str(settings)).start()
    try:
        if server.version[:2] != (6, 2):
            pytest.skip("the limit is that of Redis 6.2")
        async with open_store(server.url) as store:
            queue = CallQueue(store)
            await queue.enqueue(flow(number(0)))
            base = used_memory(server)
            for start in range(1, 4001, 1000):
                await queue.enqueue_many(
                    [CallRequest(flow=flow(number(place))) for place in range(start, start + 1000)]
                )
            assert (used_memory(server) - base) / 4000 <= 1500
    finally:
        server.kill()
