"""Waiting for changes of a queue on Redis: a waiter is woken by each change, and does not poll."""

from __future__ import annotations

import re
import statistics
import time
from datetime import timedelta

import anyio
import pytest

from tests.support.redis_server import RedisServer
from tests.support.waiting import until
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE, sample_job

pytestmark = pytest.mark.anyio
LONG = timedelta(hours=1)


async def test_a_waiting_worker_hears_of_a_job_within_50_ms(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as waiting, open_store(redis_server.url) as handing_in:
        seen = await waiting.jobs.wait(QUEUE, seen=0, until=waiting.clock.now() + LONG)
        took: list[float] = []
        for number in range(15):
            woken = anyio.Event()

            async def wait(known: int = seen, woken: anyio.Event = woken) -> None:
                while await waiting.jobs.wait(QUEUE, seen=known, until=waiting.clock.now() + LONG) == known:
                    pass
                woken.set()

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.sleep(0.02)  # the server has its question; no event says so
                started = time.monotonic()
                await handing_in.jobs.enqueue([sample_job(number)], now=NOW)
                await woken.wait()
                took.append(time.monotonic() - started)
            seen = await waiting.jobs.wait(QUEUE, seen=0, until=waiting.clock.now() + LONG)
        assert statistics.median(took) < 0.05


async def test_a_waiting_worker_asks_for_next_to_nothing(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:
        seen = await store.jobs.wait(QUEUE, seen=0, until=store.clock.now() + LONG)
        await store.jobs.wait(QUEUE, seen=seen, until=store.clock.now() + timedelta(seconds=0.05))
        redis_server.ask("CONFIG", "RESETSTAT")
        until = store.clock.now() + timedelta(seconds=1)
        while await store.jobs.wait(QUEUE, seen=seen, until=until) == seen and store.clock.now() < until:
            pass
        stats = str(redis_server.ask("INFO", "stats"))
        assert int(stats.partition("total_commands_processed:")[2].split()[0]) < 12


async def test_a_waiter_that_is_woken_asks_nothing_before_it_goes_on(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as waiting, open_store(redis_server.url) as handing_in:
        seen = await waiting.jobs.wait(QUEUE, seen=0, until=waiting.clock.now() + LONG)
        await until(lambda: "cmd=xread" in str(redis_server.ask("CLIENT", "LIST")))
        before = _counts_read(redis_server)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: waiting.jobs.wait(QUEUE, seen=seen, until=waiting.clock.now() + LONG))
            await until(lambda: _counts_read(redis_server) == before + 1)
            await handing_in.jobs.enqueue([sample_job(1)], now=NOW)
        assert _counts_read(redis_server) == before + 1


def _counts_read(server: RedisServer) -> int:
    """How often a change count was read: besides, GET is used with each SETNX, by the check of a new connection."""
    stats = str(server.ask("INFO", "commandstats"))
    gets, checks = (re.search(rf"cmdstat_{name}:calls=(\d+)", stats) for name in ("get", "setnx"))
    return (int(gets[1]) if gets else 0) - (int(checks[1]) if checks else 0)


async def test_a_server_that_was_set_back_wakes_who_waits(redis_server: RedisServer) -> None:
    """The count it had is gone; whoever waits for a larger one must not sleep until it is reached again."""
    async with open_store(redis_server.url) as store:
        for number in range(5):
            await store.jobs.enqueue([sample_job(number)], now=NOW)
        seen = await store.jobs.wait(QUEUE, seen=0, until=store.clock.now() + LONG)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(_set_back, redis_server)
                while await store.jobs.wait(QUEUE, seen=seen, until=store.clock.now() + LONG) == seen:
                    pass


async def _set_back(server: RedisServer) -> None:
    await anyio.sleep(0.1)  # the server has the question; no event says so
    server.ask("FLUSHALL")
    server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
