"""Depth: what a lease costs beside a few and beside many waiting calls, and the room that a waiting call takes.

    python -m bench.depth                               both stores, beside 1,000 and 1,000,000 due calls
    python -m bench.depth --store redis --counts 1000 100000 --later

Each store is a new one: SQLite with synchronous=FULL, Redis with appendfsync always. Each lease takes 50 calls, and as
many are enqueued after it. The figures are for the caller; the median of the last count is compared with the first.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio

from bench.rung import AT_ONCE, request
from tests.support.redis_server import ask, standalone, system_server
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.core.ports import Store

LEASES = 100
PAGE = 1000
WARM_UP = 10


class Filled:
    """A store that is filled step by step. `enqueued` is the number of calls that were ever enqueued."""

    def __init__(self, store: Store, *, later: bool) -> None:
        self._store = store
        self._queue = CallQueue(store)
        self._not_before = store.clock.now() + timedelta(days=1) if later else None
        self.enqueued = 0

    async def fill(self, waiting: int) -> None:
        """Enqueue as many calls as are missing to this number, for now or for tomorrow."""
        while self.enqueued < waiting:
            await self._enqueue(min(PAGE, waiting - self.enqueued), later=True)

    async def leases(self) -> tuple[list[float], list[float]]:
        """The milliseconds of leases, on the clock and on the processor.

        As many calls as are leased are enqueued, so the depth stays the same.
        """
        times, processor = list[float](), list[float]()
        await self._enqueue(AT_ONCE, later=False)
        for turn in range(WARM_UP + LEASES):
            gc.collect(0)
            now, began, used = self._store.clock.now(), time.perf_counter(), time.process_time()
            found = await self._store.lease(
                "default", worker_id="w", limit=AT_ONCE, until=now + timedelta(hours=1), now=now
            )
            took, spent = time.perf_counter() - began, time.process_time() - used
            if len(found) != AT_ONCE:
                raise SystemExit(f"{len(found)} of {AT_ONCE} calls were leased")
            if turn >= WARM_UP:
                times.append(1000 * took)
                processor.append(1000 * spent)
            await self._enqueue(AT_ONCE, later=False)
        return times, processor

    async def _enqueue(self, count: int, *, later: bool) -> None:
        not_before = self._not_before if later else None
        requests = [request(self.enqueued + place, not_before=not_before) for place in range(count)]
        await self._queue.enqueue_many(requests)
        self.enqueued += count


async def measure(kind: str, counts: list[int], *, later: bool) -> list[dict[str, object]]:
    """The figures of one store, one line for each count."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            path = Path(folder) / "calls.db"
            return await _lines(kind, f"sqlite:///{path}", counts, lambda: path.stat().st_size, later=later)
        server = standalone(Path(folder) / "redis", binary=system_server())
        server.start()
        try:
            return await _lines(kind, server.url, counts, lambda: memory_of(server.port), later=later)
        finally:
            server.kill()


async def _lines(
    kind: str, url: str, counts: list[int], room: Callable[[], int], *, later: bool
) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    async with open_store(url) as store:
        filled, empty = Filled(store, later=later), room()
        for count in counts:
            await filled.fill(count)
            size = room() - empty
            times, processor = await filled.leases()
            first = lines[0]["median_ms"] if lines else statistics.median(times)
            assert isinstance(first, float)
            lines.append(
                {
                    "store": kind,
                    "waiting": count,
                    "for": "tomorrow" if later else "now",
                    "median_ms": statistics.median(times),
                    "p99_ms": sorted(times)[-1 - len(times) // 100],
                    "cpu_ms": statistics.median(processor),
                    "ratio": statistics.median(times) / first,
                    "bytes_a_call": size / count,
                }
            )
            say({name: round(value, 2) if isinstance(value, float) else value for name, value in lines[-1].items()})
    return lines


def memory_of(port: int) -> int:
    """The bytes that a Redis server has in use."""
    ask(port, "MEMORY", "PURGE")
    info = ask(port, "INFO", "memory")
    assert isinstance(info, str)
    return next(int(line.partition(":")[2]) for line in info.splitlines() if line.startswith("used_memory:"))


def say(line: dict[str, object]) -> None:
    """Print one line of figures."""
    print(json.dumps(line), flush=True)  # noqa: T201


async def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["sqlite", "redis", "both"], default="both")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 1_000_000])
    parser.add_argument("--later", action="store_true", help="the calls wait for tomorrow, instead of being due")
    wanted = parser.parse_args()
    os.environ.setdefault("VOICEFLOW_LOG_LEVEL", "warning")
    for kind in ("sqlite", "redis") if wanted.store == "both" else (wanted.store,):
        await measure(kind, sorted(wanted.counts), later=wanted.later)


if __name__ == "__main__":
    anyio.run(main)
