"""Waiting for changes of a queue on Redis: a waiter is woken by each change, and does not poll."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import QUEUE, sample_job
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store

pytestmark = pytest.mark.anyio
LONG = timedelta(hours=1)


async def test_a_waiting_worker_asks_for_next_to_nothing(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:
        seen = await store.wait(QUEUE, seen=0, until=store.clock.now() + LONG)
        await store.wait(QUEUE, seen=seen, until=store.clock.now() + timedelta(seconds=0.05))
        redis_server.ask("CONFIG", "RESETSTAT")
        until = store.clock.now() + timedelta(seconds=1)
        while await store.wait(QUEUE, seen=seen, until=until) == seen and store.clock.now() < until:
            pass
        stats = str(redis_server.ask("INFO", "stats"))
        assert int(stats.partition("total_commands_processed:")[2].split()[0]) < 12


async def test_a_server_that_was_rolled_back_wakes_who_waits(redis_server: RedisServer) -> None:
    """The count it had is gone; whoever waits for a larger one must not sleep until it is reached again."""
    async with open_store(redis_server.url) as store:
        for number in range(5):
            await add_jobs(store, [sample_job(number)])
        seen = await store.wait(QUEUE, seen=0, until=store.clock.now() + LONG)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(_rolled_back, redis_server)
                while await store.wait(QUEUE, seen=seen, until=store.clock.now() + LONG) == seen:
                    pass


async def _rolled_back(server: RedisServer) -> None:
    await anyio.sleep(0.1)  # the server has the question; no event says so
    server.ask("DEL", *(f"{{voiceflow}}:queue:{QUEUE}:{name}" for name in ("changes", "wake")))
    server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
