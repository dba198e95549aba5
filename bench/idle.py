"""Idle: what a worker with nothing to do costs, and from `enqueue` returned to the arrival of the POST.

    ./dev bench idle [--calls 100] [--rest 60] [--store sqlite] [--baseline CHECKOUT] [--only NAME]

The worker is `voiceflow worker` as it is shipped, without a rate; another process enqueues a call, waits until its POST
has come and been answered, and a moment longer. Waits are milliseconds; at rest, the share of a core in per cent over
so many seconds, and megabytes. The peers of `./dev bench-peers` whose name contains `--only` are measured beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.paced import ROOT, STORES, worker_environment
from bench.peer import TimedSink, waits
from bench.peers import PEERS, peer_command
from bench.rung import request
from bench.steady import processor_seconds
from bench.throughput import environment, running_redis, store
from tests.support.redis_server import RedisServer
from voiceflow_worker import CallPolicy, CallQueue, open_store
from voiceflow_worker.model.jobs.policy import OutcomeSource

WARM_UP = 5
SETTLED = 45
"""Seconds until a worker has nothing left to begin with, and looks seldom."""
WORKER = [sys.executable, "-m", "voiceflow_worker", "worker", "--rate", "unlimited"]


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


def of_peer(name: str, calls: int) -> list[float]:
    """The waits of a peer, on a Redis that writes nothing to the disk."""
    with running_redis(RedisServer) as url:
        command = [*peer_command(name, "wake"), "--redis", url, "--calls", str(WARM_UP + calls)]
        found = subprocess.run(command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, check=True)
        return [float(each) for each in json.loads(found.stdout)]


def rest_of(name: str, kind: str, build: Path, seconds: float) -> dict[str, float]:
    """A peer, or the worker on a kind of store, at rest."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if name in PEERS:
            command = [*peer_command(name, "run"), "--redis", stack.enter_context(running_redis(RedisServer))]
            return at_rest(command, environment(), ROOT, seconds)
        url = stack.enter_context(store(kind))
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
    parser.add_argument("--only", help="measure peers whose name contains this too")
    wanted = parser.parse_args()
    builds = {"worker": ROOT, **({"baseline": wanted.baseline.resolve()} if wanted.baseline else {})}
    kinds = STORES if wanted.store == "all" else (wanted.store,)
    peers = [each for each in PEERS if wanted.only is not None and wanted.only in each]
    for name, kind in [*((build, kind) for kind in kinds for build in builds), *((peer, "redis") for peer in peers)]:
        build = builds.get(name, ROOT)
        told: dict[str, object] = {"store": kind, "of": name}
        if wanted.calls:
            found = of_peer(name, wanted.calls) if name in PEERS else asyncio.run(of_worker(kind, build, wanted.calls))
            told |= quantiles(found)
        if wanted.rest:
            told |= rest_of(name, kind, build, wanted.rest)
        print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
