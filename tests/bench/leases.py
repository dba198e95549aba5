"""The cost of a lease on Redis: beside batches that wait, and after many calls have expired together.

    python tests/bench/leases.py batches 1000 20000 60000
    python tests/bench/leases.py waiting 1000 1000000
    python tests/bench/leases.py expiring 200000

Each run starts a Redis server of its own (appendfsync always). Times are of the server, from its SLOWLOG.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio

from tests.support.redis_server import RedisServer, standalone
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import QUEUE, sample_job
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy

AT_ONCE = 500
LEASES = 200


async def fill(store: Store, jobs: Iterable[Job], *, now: datetime) -> None:
    """Enqueue jobs, some at a time."""
    some: list[Job] = []
    for job in jobs:
        some.append(job)
        if len(some) == AT_ONCE:
            await store.jobs.enqueue(some, now=now)
            some = []
    if some:
        await store.jobs.enqueue(some, now=now)


def say(line: str) -> None:
    """Say what was measured."""
    print(line, flush=True)  # noqa: T201


def slowest(server: RedisServer) -> float:
    """The longest command since the last reset, in milliseconds."""
    return max((entry[2] / 1000 for entry in entries(server)), default=0.0)


def entries(server: RedisServer) -> list[Any]:
    """What the SLOWLOG holds."""
    found = server.ask("SLOWLOG", "GET", 5000)
    assert isinstance(found, list)
    return found


def reset(server: RedisServer) -> None:
    """Begin to count anew."""
    server.ask("CONFIG", "RESETSTAT")
    server.ask("SLOWLOG", "RESET")


async def leases(server: RedisServer, store: Store, title: str) -> None:
    """Leases of one call each beside whatever waits, and their time on the server."""
    now = store.clock.now()
    await fill(store, (sample_job(10_000_000 + number, due_at=now) for number in range(LEASES + 1)), now=now)
    await store.jobs.lease(QUEUE, worker_id="w", limit=1, lease_for=timedelta(hours=1), now=now)
    server.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
    reset(server)
    for _ in range(LEASES):
        found = await store.jobs.lease(QUEUE, worker_id="w", limit=1, lease_for=timedelta(hours=1), now=now)
        assert len(found) == 1
    took = [entry[2] for entry in entries(server) if entry[3][0].upper() == "EVALSHA"]
    say(f"{title}: {statistics.median(took)} µs a lease (the median of {len(took)}), the longest {max(took)} µs")


async def batches(server: RedisServer, store: Store, count: int) -> None:
    """A lease beside batches of one call each that wait for tomorrow."""
    now = store.clock.now()
    tomorrow = now + timedelta(days=1)
    jobs = (sample_job(number, batch_id=f"b{number}", due_at=tomorrow) for number in range(count))
    await fill(store, jobs, now=now)
    await leases(server, store, f"{count} batches for tomorrow")


async def waiting(server: RedisServer, store: Store, count: int) -> None:
    """A lease beside calls of one batch that wait for tomorrow."""
    now = store.clock.now()
    jobs = (sample_job(number, batch_id="b", due_at=now + timedelta(days=1)) for number in range(count))
    await fill(store, jobs, now=now)
    await leases(server, store, f"{count} calls for tomorrow")


async def expiring(server: RedisServer, store: Store, count: int) -> None:
    """Leases and the sweep after many calls have expired in the same second."""
    now = store.clock.now()
    ends = now - timedelta(seconds=1)
    jobs = (
        replace(sample_job(number, due_at=ends), valid_until=ends + timedelta(microseconds=number % 1_000_000))
        for number in range(count)
    )
    await fill(store, jobs, now=now)
    reset(server)
    began = time.monotonic()
    await store.jobs.lease(QUEUE, worker_id="w", limit=10, lease_for=timedelta(hours=1), now=store.clock.now())
    say(
        f"{count} expired: the first lease took {time.monotonic() - began:.2f} s, "
        f"its longest command {slowest(server):.1f} ms"
    )
    sweeper = Sweeper(store, queue=QUEUE, policy=CallPolicy())
    swept = 0
    reset(server)
    began = time.monotonic()
    while swept < count and time.monotonic() - began < 120:
        swept += (await sweeper.sweep()).expired
    took = time.monotonic() - began
    left = (await store.jobs.count(QUEUE))[JobState.QUEUED]
    say(
        f"{swept} swept in {took:.1f} s ({swept / took:.0f}/s), {left} left, the longest command "
        f"{slowest(server):.1f} ms"
    )


async def main() -> None:
    what = {"batches": batches, "waiting": waiting, "expiring": expiring}[sys.argv[1]]
    for count in map(int, sys.argv[2:]):
        with tempfile.TemporaryDirectory() as folder:
            server = standalone(
                Path(folder) / "redis", "--slowlog-log-slower-than", "2000", "--slowlog-max-len", "5000"
            )
            server.start()
            try:
                async with open_store(server.url) as store:
                    await what(server, store, count)
            finally:
                server.kill()


if __name__ == "__main__":
    anyio.run(main)
