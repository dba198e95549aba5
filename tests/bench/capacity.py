"""What a call costs in processor time, network, disk and memory, and what a second worker process adds.

    python -m tests.bench.capacity                          both stores, one process and two
    python -m tests.bench.capacity --store redis --calls 3000 --processes 1 2 4
    python -m tests.bench.capacity --processes 1 --rate 100 --calls 2000   at a rate, as most campaigns run

Each measurement has a new store: SQLite with synchronous=FULL, Redis with appendfsync always. The calls wait when the
workers begin, each with 50 POSTs in flight and its journal file. Processes that share too few cores slow each other:
`cpu_us` shows what the work costs, whatever else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import anyio

from tests.bench.rung import client_of, request, witness_of
from tests.bench.throughput import environment, sink
from tests.support.redis_server import RedisServer, standalone, system_server
from voiceflow_worker import CallPolicy, CallQueue, JobState, Worker, open_store
from voiceflow_worker.core.options import WorkerOptions
from voiceflow_worker.core.ports.reading import count_states
from voiceflow_worker.model.jobs.policy import OutcomeSource

POLICY = CallPolicy(outcomes=OutcomeSource.NONE)
PAGE = 1000
Use = Callable[[], dict[str, float]]


def use_of_redis(server: RedisServer) -> dict[str, float]:
    """What a Redis server has used so far."""

    def figure(section: str, name: str) -> float:
        found = re.search(rf"^{name}:([0-9.]+)", str(server.ask("INFO", section)), re.MULTILINE)
        if found is None:
            raise SystemExit(f"the server does not tell its {name}")
        return float(found[1])

    return {
        "store_cpu_us": 1e6 * (figure("cpu", "used_cpu_user") + figure("cpu", "used_cpu_sys")),
        "bytes_to_store": figure("stats", "total_net_input_bytes"),
        "bytes_from_store": figure("stats", "total_net_output_bytes"),
        "commands": figure("stats", "total_commands_processed"),
        "bytes_on_disk": figure("persistence", "aof_current_size"),
        "bytes_of_memory": figure("memory", "used_memory"),
    }


def use_of_file(path: Path) -> dict[str, float]:
    """The size of a SQLite store."""
    return {"bytes_on_disk": sum(each.stat().st_size for each in path.parent.iterdir())}


async def fill(url: str, calls: int) -> None:
    """Enqueue calls."""
    async with open_store(url) as store:
        queue = CallQueue(store, policy=POLICY)
        for start in range(0, calls, PAGE):
            await queue.enqueue_many([request(place) for place in range(start, min(start + PAGE, calls))])


async def accepted(url: str) -> int:
    """The number of calls that were sent."""
    async with open_store(url) as store:
        return (await count_states(store, "default"))[JobState.ACCEPTED]


async def work(wanted: argparse.Namespace) -> None:
    """Drain the queue after a line of stdin, and print what this process has used."""
    wanted.guard = True
    async with open_store(wanted.url) as store, client_of(wanted.port) as client, witness_of(wanted) as witness:
        worker = Worker(store, client, rate=wanted.rate, options=WorkerOptions(policy=POLICY), witness=witness)
        print("ready", flush=True)  # noqa: T201 - its parent reads this
        sys.stdin.readline()
        began = time.process_time()
        await worker.drain()
        used = {"cpu": time.process_time() - began, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        print(json.dumps(used), flush=True)  # noqa: T201 - its parent reads this


def measure(kind: str, processes: int, *, calls: int, rate: float | None) -> dict[str, float]:
    """The figures of so many worker processes on one new store."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(sink())
        use: Use
        if kind == "redis":
            server = standalone(folder / "redis", binary=system_server())
            server.start()
            stack.callback(server.kill)
            url, use = server.url, partial(use_of_redis, server)
        else:
            (folder / "store").mkdir()
            path = folder / "store" / "calls.db"
            url, use = f"sqlite:///{path}", partial(use_of_file, path)
        anyio.run(fill, url, calls)
        workers = [stack.enter_context(_worker(url, port, rate)) for _ in range(processes)]
        for worker in workers:
            _line_of(worker)
        before, began = use(), time.perf_counter()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        used = [json.loads(_line_of(worker)) for worker in workers]
        took, after = time.perf_counter() - began, use()
        sent = anyio.run(accepted, url)
    if sent != calls:
        raise SystemExit(f"{sent} of {calls} calls were sent")
    cpu = sum(each["cpu"] for each in used)
    return {
        "per_second": calls / took,
        "cpu_us": 1e6 * cpu / calls,
        "rss_mb": max(each["rss_mb"] for each in used),
        **{name: (after[name] - before[name]) / calls for name in after},
    }


def _worker(url: str, port: int, rate: float | None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bench.capacity", "--work", "--url", url, "--port", str(port)]
    command += [] if rate is None else ["--rate", str(rate)]
    return subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.send_signal(signal.SIGTERM)
        raise SystemExit(f"a worker ended with exit code {process.wait()}")
    return line


def main() -> None:
    """Measure, or do the part of a worker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["sqlite", "redis", "both"], default="both")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rate", type=float, help="calls a second of all processes together; unlimited without it")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.work:
        anyio.run(work, wanted)
        return
    for kind in ("sqlite", "redis") if wanted.store == "both" else (wanted.store,):
        one: dict[str, float] = {}
        for processes in wanted.processes:
            found = measure(kind, processes, calls=wanted.calls, rate=wanted.rate)
            one = one or found
            found["times_the_first"] = found["per_second"] / one["per_second"]
            rounded = {name: round(value, 2 if value < 100 else 0) for name, value in found.items()}
            told = {"store": kind, "processes": processes, "cores": os.cpu_count(), **rounded}
            print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
