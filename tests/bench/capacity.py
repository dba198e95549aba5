"""What a call costs in processor time, network, disk and memory, and what a second worker process adds.

    python -m tests.bench.capacity                          both stores, one process and two
    python -m tests.bench.capacity --store redis --calls 3000 --processes 1 2 4
    python -m tests.bench.capacity --store cluster --processes 1           three nodes: the work of each
    python -m tests.bench.capacity --processes 1 --rate 100 --calls 2000   at a rate, as most campaigns run
    python -m tests.bench.capacity --processes 1 2 4 --share 0.2           slow cores, some of them free (Linux, root)

Each measurement has a new store: SQLite with synchronous=FULL, Redis with appendfsync always. The calls wait when the
workers begin, each with 50 POSTs in flight and its journal file. Processes that share too few cores slow each other:
`cpu_us` shows what the work costs, whatever else runs. With `--share`, each worker process has a slow core of its own:
a control group of Linux gives it this share of a core, in periods of 10 ms. Redis and the sink have no such limit.
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import anyio

from tests.bench.rung import client_of, request, witness_of
from tests.bench.throughput import environment, sink
from tests.support.redis_server import RedisCluster, RedisServer, standalone, system_server
from voiceflow_worker import CallPolicy, CallQueue, JobState, Worker, open_store
from voiceflow_worker.core.options import WorkerOptions
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


def use_of_cluster(cluster: RedisCluster) -> dict[str, float]:
    """What the nodes of a cluster have used so far, each by its number."""
    return {
        f"node{place}_{name}": value
        for place, node in enumerate(cluster.nodes, 1)
        for name, value in use_of_redis(node).items()
        if name in {"store_cpu_us", "commands"}
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
        return (await store.jobs.count("default"))[JobState.ACCEPTED]


@contextmanager
def slow_core(share: float) -> Iterator[Path]:
    """The list of processes of a new control group (version 1 or 2), each of which has this share of a core at most."""
    period, quota = 10_000, round(share * 10_000)
    root = Path("/sys/fs/cgroup")
    is_version_1 = (root / "cpu").is_dir()
    group = Path(tempfile.mkdtemp(prefix="voiceflow-bench-", dir=root / "cpu" if is_version_1 else root))
    try:
        if is_version_1:
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {period}")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


async def work(wanted: argparse.Namespace) -> None:
    """Drain the queue after a line of stdin, and print what this process has used."""
    wanted.guard = True
    async with open_store(wanted.url) as store, client_of(wanted.port) as client, witness_of(wanted) as witness:
        worker = Worker(store, client, rate=wanted.rate, options=WorkerOptions(policy=POLICY), witness=witness)
        print("ready", flush=True)  # noqa: T201 - its parent reads this
        sys.stdin.readline()
        if wanted.group is not None:
            wanted.group.write_text(str(os.getpid()))
        began = time.process_time()
        await worker.drain()
        used = {"cpu": time.process_time() - began, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        print(json.dumps(used), flush=True)  # noqa: T201 - its parent reads this


def measure(kind: str, processes: int, *, calls: int, rate: float | None, share: float | None) -> dict[str, float]:
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
        elif kind == "cluster":
            cluster = RedisCluster(folder / "cluster", binary=system_server())
            cluster.start()
            stack.callback(cluster.kill)
            url, use = cluster.url, partial(use_of_cluster, cluster)
        else:
            (folder / "store").mkdir()
            path = folder / "store" / "calls.db"
            url, use = f"sqlite:///{path}", partial(use_of_file, path)
        anyio.run(fill, url, calls)
        groups = [None if share is None else stack.enter_context(slow_core(share)) for _ in range(processes)]
        workers = [stack.enter_context(_worker(url, port, rate, group)) for group in groups]
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


def _worker(url: str, port: int, rate: float | None, group: Path | None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bench.capacity", "--work", "--url", url, "--port", str(port)]
    for option, value in (("--rate", rate), ("--group", group)):
        command += [] if value is None else [option, str(value)]
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
    parser.add_argument("--store", choices=["sqlite", "redis", "cluster", "both"], default="both")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rate", type=float, help="calls a second of all processes together; unlimited without it")
    parser.add_argument("--share", type=float, help="the share of a core that each worker process may use")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--group", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.work:
        anyio.run(work, wanted)
        return
    for kind in ("sqlite", "redis") if wanted.store == "both" else (wanted.store,):
        one: dict[str, float] = {}
        for processes in wanted.processes:
            found = measure(kind, processes, calls=wanted.calls, rate=wanted.rate, share=wanted.share)
            one = one or found
            found["times_the_first"] = found["per_second"] / one["per_second"]
            rounded = {name: round(value, 2 if value < 100 else 0) for name, value in found.items()}
            told = {"store": kind, "processes": processes, "cores": os.cpu_count(), **rounded}
            print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
