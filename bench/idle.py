"""Idle: what a worker with nothing to do costs, and from `enqueue` returned to the arrival of the POST.

    ./dev bench idle [--calls 100] [--rest 60] [--store sqlite] [--baseline CHECKOUT]

The worker is `voiceflow worker` as it is shipped, without a rate; another process enqueues a call, waits until its POST
has come and been answered, and a moment longer. Waits are milliseconds; at rest, the share of a core in per cent over
so many seconds, and megabytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.paced import ROOT, STORES, processor_seconds, worker_environment
from bench.rung import request
from bench.sink import Sink
from bench.throughput import store
from voiceflow_worker import CallPolicy, CallQueue, open_store
from voiceflow_worker.model.jobs.policy import OutcomeSource

WARM_UP = 5
SETTLED = 45
"""Seconds until a worker has nothing left to begin with, and looks seldom."""
WORKER = [sys.executable, "-m", "voiceflow_worker", "worker", "--rate", "unlimited"]


class TimedSink(Sink):
    """A sink that notes when something came."""

    came: float = 0.0
    arrived: asyncio.Event

    def data_received(self, data: bytes) -> None:
        """Note the time before anything else."""
        TimedSink.came = time.monotonic()
        super().data_received(data)
        TimedSink.arrived.set()


async def waits(enqueue: Callable[[int], Awaitable[object]], calls: int) -> list[float]:
    """The milliseconds from the return of `enqueue` to the arrival of each POST at the sink of this process."""
    found = list[float]()
    for place in range(calls):
        TimedSink.arrived = asyncio.Event()
        await enqueue(place)
        began = time.monotonic()
        await asyncio.wait_for(TimedSink.arrived.wait(), 60)
        found.append(1000 * (TimedSink.came - began))
        await asyncio.sleep(random.uniform(0.1, 0.3))
    return found


async def of_worker(kind: str, build: Path, calls: int) -> list[float]:
    """The waits of a worker of this build on one kind of store."""
    server = await asyncio.get_running_loop().create_server(TimedSink, "127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as folder, store(kind) as url:
        port = server.sockets[0].getsockname()[1]
        env = worker_environment(build, folder, url, port=port, log_level="error")
        async with open_store(url) as opened:
            queue = CallQueue(opened, policy=CallPolicy(outcomes=OutcomeSource.NONE))
            process = await asyncio.create_subprocess_exec(*WORKER, env=env, cwd=build, stderr=subprocess.DEVNULL)
            try:
                return await waits(lambda place: queue.enqueue(request(place).flow), WARM_UP + calls)
            finally:
                process.kill()
                await process.wait()


def at_rest(command: list[str], env: dict[str, str], cwd: Path, seconds: float) -> dict[str, float]:
    """The share of a core of a process that waits, and its memory."""
    with subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(SETTLED)
        used = processor_seconds(process.pid)
        time.sleep(seconds)
        used = processor_seconds(process.pid) - used
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        process.kill()
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return {"share": round(100 * used / seconds, 2), "memory": round(memory / 1024, 1)}


def rest_of(kind: str, build: Path, seconds: float) -> dict[str, float]:
    """The worker on a kind of store, at rest."""
    with tempfile.TemporaryDirectory() as folder, store(kind) as url:
        return at_rest(WORKER, worker_environment(build, folder, url, port=9, log_level="error"), build, seconds)


def quantiles(found: list[float]) -> dict[str, float]:
    """The quantiles of waits, without the first ones."""
    cuts = statistics.quantiles(found[WARM_UP:], n=100, method="inclusive")
    return {f"p{place}": round(cuts[place - 1], 2) for place in (10, 50, 90, 99)}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rest", type=float, default=0, help="seconds at rest; without it none are measured")
    parser.add_argument("--store", choices=[*STORES, "all"], default="all")
    parser.add_argument("--baseline", type=Path, help="another checkout, measured after this one")
    wanted = parser.parse_args()
    builds = {"worker": ROOT, **({"baseline": wanted.baseline.resolve()} if wanted.baseline else {})}
    kinds = STORES if wanted.store == "all" else (wanted.store,)
    for name, kind in [(build, kind) for kind in kinds for build in builds]:
        build = builds[name]
        told: dict[str, object] = {"store": kind, "of": name}
        if wanted.calls:
            told |= quantiles(asyncio.run(of_worker(kind, build, wanted.calls)))
        if wanted.rest:
            told |= rest_of(kind, build, wanted.rest)
        print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
