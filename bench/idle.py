"""Idle: from `enqueue` returned to the arrival of the POST, with a worker that has nothing else to do.

    ./dev bench idle [--calls 100] [--store sqlite] [--baseline CHECKOUT]

The worker is `voiceflow worker` as it is shipped, without a rate; another process enqueues a call, waits until its POST
has come and been answered, and a moment longer. Figures are milliseconds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio

from bench.paced import ROOT, STORES, worker_environment
from bench.rung import request
from bench.throughput import store
from tests.support.sink import Sink
from voiceflow_worker import CallPolicy, CallQueue, open_store
from voiceflow_worker.model.jobs.policy import OutcomeSource

WARM_UP = 5


class TimedSink(Sink):
    """A sink that notes when something came."""

    came: float = 0.0
    arrived: anyio.Event

    def data_received(self, data: bytes) -> None:
        """Note the time before anything else."""
        TimedSink.came = time.monotonic()
        super().data_received(data)
        TimedSink.arrived.set()


async def waits(url: str, port: int, build: Path, folder: str, calls: int) -> list[float]:
    """The milliseconds of each call."""
    env = worker_environment(build, folder, url, port=port, log_level="error")
    found = list[float]()
    async with open_store(url) as opened:
        queue = CallQueue(opened, policy=CallPolicy(outcomes=OutcomeSource.NONE))
        command = [sys.executable, "-m", "voiceflow_worker", "worker", "--rate", "unlimited"]
        async with await anyio.open_process(command, env=env, cwd=build, stderr=subprocess.DEVNULL) as process:
            try:
                for place in range(WARM_UP + calls):
                    TimedSink.arrived = anyio.Event()
                    await queue.enqueue(request(place).flow)
                    began = time.monotonic()
                    with anyio.fail_after(60):
                        await TimedSink.arrived.wait()
                    found.append(1000 * (TimedSink.came - began))
                    await anyio.sleep(random.uniform(0.1, 0.3))
            finally:
                process.kill()
    return found[WARM_UP:]


async def measured(kind: str, build: Path, calls: int) -> dict[str, float]:
    """The quantiles of the waits on one kind of store."""
    import asyncio

    server = await asyncio.get_running_loop().create_server(TimedSink, "127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as folder, store(kind) as url:
        found = await waits(url, server.sockets[0].getsockname()[1], build, folder, calls)
    server.close()
    deciles = statistics.quantiles(found, n=10)
    return {"p10": round(deciles[0], 2), "p50": round(deciles[4], 2), "p90": round(deciles[8], 2)}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--store", choices=[*STORES, "all"], default="all")
    parser.add_argument("--baseline", type=Path, help="another checkout, measured after this one")
    wanted = parser.parse_args()
    builds = {"worker": ROOT, **({"baseline": wanted.baseline.resolve()} if wanted.baseline else {})}
    for kind in STORES if wanted.store == "all" else (wanted.store,):
        for name, build in builds.items():
            told = {"store": kind, "build": name, **anyio.run(measured, kind, build, wanted.calls)}
            print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
