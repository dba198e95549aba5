"""Steady: what a server is asked while a worker sends at a rate for minutes, and what the worker and the receiver keep.

    ./dev bench steady redis|postgres [--minutes 10] [--rate 50]
    ./dev bench steady locks [--against FOLDER]

The first sends a campaign through a sandbox, with a receiver beside the worker, and prints the steps of Redis above 5
ms (its slow log) or the statements of PostgreSQL above 50 ms (its log), and the memory of the worker and the receiver
every half minute. The clock of a busy machine is unfair, so it also prints how often a thread that only counts was kept
waiting as long. With `--first`, the server goes before all other processes (Linux, root), so that its clock is its own.

The second runs a worker without a rate beside a receiver with 200 summaries a second on PostgreSQL, and looks every 20
ms whether a transaction waits for the lock of the whole store. `--against` does the same with another build, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import webhooks
from bench.throughput import environment, sink
from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer, standalone, system_server
from tests.support.stage import stage

SLOW = {"redis": 5, "postgres": 50}
"""Milliseconds."""
EVERY = 30.0
RECEIVED = 200
"""Summaries a second."""
ALONE = "4294967295"
"""The lock -1 of PostgreSQL: the whole store."""
TICKS = os.sysconf("SC_CLK_TCK")


def told(**figures: object) -> None:
    """One line of figures."""
    print(json.dumps(figures), flush=True)  # noqa: T201 - this is a command


class Waits:
    """How long a thread that only counts is kept from the processor: what the clock says beyond its processor time."""

    def __init__(self) -> None:
        self.longest: list[float] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self.ended.wait(0.1):
            clock, own = time.perf_counter(), time.thread_time()
            while time.thread_time() - own < 0.001:
                pass
            self.longest.append(1000 * (time.perf_counter() - clock) - 1)

    def end(self, slow: float) -> dict[str, object]:
        """How many of its looks were kept waiting so long, and the longest wait, in milliseconds."""
        self.ended.set()
        self._thread.join()
        return {"looks": len(self.longest), "waited": sum(each > slow for each in self.longest),
                "longest_ms": round(max(self.longest), 1)}  # fmt: skip


def memory(pid: int) -> float:
    """The resident memory of a process, in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return round(int(found[1]) / 1024, 1)


def processor_seconds(pid: int) -> float:
    """The processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def steps_of_redis(server: RedisServer) -> list[str]:
    """What its slow log has: the time and the command of each step."""
    entries: Any = server.ask("SLOWLOG", "GET", "1000")
    return [f"{int(entry[2]) / 1000:.1f} ms {' '.join(map(str, entry[3]))[:160]}" for entry in entries]


def statements_of_postgres(server: PostgresServer) -> list[str]:
    """What its log has: the time and the beginning of each statement."""
    found = re.findall(r"duration: ([\d.]+) ms\s+(?:\w+ [^:]*: |statement: )(.{0,120})", server.log, re.DOTALL)
    return [f"{float(taken):.1f} ms {' '.join(what.split())}" for taken, what in found]


@contextmanager
def server_of(kind: str, folder: Path) -> Iterator[tuple[str, Any]]:
    """The URL of a server that notes what is slow, and the server."""
    if kind == "redis":
        redis = standalone(folder / "redis", binary=system_server()).start()
        redis.ask("CONFIG", "SET", "slowlog-log-slower-than", str(1000 * SLOW[kind]))
        redis.ask("CONFIG", "SET", "slowlog-max-len", "1000")
        try:
            yield redis.url, redis
        finally:
            redis.kill()
    else:
        postgres = PostgresServer(f"log_min_duration_statement={SLOW[kind]}").start()
        try:
            yield postgres.url(), postgres
        finally:
            postgres.close()


def children(pid: int) -> list[int]:
    """The processes that a process has begun."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def steady(kind: str, *, minutes: float, rate: int, first: bool) -> None:
    """Send at a rate, and print what was slow and what was kept."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, server = stack.enter_context(server_of(kind, folder))
        scene = stack.enter_context(stage(folder, store=url, speed=10, log_level="warning"))
        for first_call in range(0, int(60 * minutes * rate), 3000):
            size = min(3000, int(60 * minutes * rate) - first_call)
            scene.campaign(size, name=f"campaign-{first_call}", first=first_call)
        worker = stack.enter_context(scene.worker("--rate", str(rate)))
        worker.wait_for("for their turn")
        if first:
            asked = "" if kind == "postgres" else server.ask("INFO", "server")
            at = server.pid if kind == "postgres" else int(re.findall(r"process_id:(\d+)", asked)[0])
            for process in [at, *children(at)]:
                os.sched_setscheduler(process, os.SCHED_FIFO, os.sched_param(1))
        if kind == "redis":
            server.ask("SLOWLOG", "RESET")
        slow_before = len(statements_of_postgres(server)) if kind == "postgres" else 0
        waits, began, kept = Waits(), time.monotonic(), list[tuple[float, float]]()
        while (left := began + 60 * minutes - time.monotonic()) > 0:
            time.sleep(min(EVERY, left))
            kept.append((memory(worker.pid), memory(scene.serving.pid)))
            told(minute=round((time.monotonic() - began) / 60, 1), worker_mb=kept[-1][0], receiver_mb=kept[-1][1])
        states = scene.states()
        slow = steps_of_redis(server) if kind == "redis" else statements_of_postgres(server)[slow_before:]
        told(store=kind, calls=sum(states.values()), states=states, slow=len(slow), above_ms=SLOW[kind])
        told(machine=waits.end(SLOW[kind]), load=os.getloadavg())
        for what in sorted(slow, key=lambda each: -float(each.split()[0]))[:20]:
            told(slow=what)
        half = len(kept) // 2
        for name, column in (("worker", 0), ("receiver", 1)):
            second, last = ([each[column] for each in part] for part in (kept[half // 2 : half], kept[-(half // 2) :]))
            told(memory_of=name, second_quarter_mb=statistics.mean(second), last_quarter_mb=statistics.mean(last))
        told(
            processor_seconds={
                "worker": round(processor_seconds(worker.pid), 1),
                "receiver": round(processor_seconds(scene.serving.pid), 1),
            }
        )


# --- Locks -------------------------------------------------------------------------------------------------------

LOCKS = f"""
SELECT count(*) FILTER (WHERE objid = {ALONE} AND NOT granted), count(*) FILTER (WHERE NOT granted),
       count(*) FILTER (WHERE objid = {ALONE} AND granted AND mode = 'ExclusiveLock')
FROM pg_locks WHERE locktype = 'advisory'
"""
SEED = """
import anyio, json, sys
from bench.webhooks import seed
print(json.dumps(anyio.run(seed, sys.argv[1], int(sys.argv[2]))))
"""


class Locks:
    """Looks at the locks of a server again and again."""

    def __init__(self, server: PostgresServer) -> None:
        self.seen: Counter[str] = Counter()
        self.ended = threading.Event()
        self._server = server
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self.ended.wait(0.02):
            ((whole, any_lock, alone),) = self._server.ask(LOCKS)
            self.seen["looks"] += 1
            self.seen["a transaction waited for the lock of the whole store"] += whole > 0
            self.seen["a transaction waited for a lock of a group"] += any_lock > whole
            self.seen["a transaction had the whole store"] += alone > 0

    def end(self) -> dict[str, int]:
        """How often each was seen."""
        self.ended.set()
        self._thread.join()
        return dict(self.seen)


def beside_a_receiver(build: Path, *, calls: int, port: int) -> dict[str, object]:
    """The figures of one build: a worker without a rate, and a receiver with summaries all the while."""
    python, summaries = str(build / ".venv/bin/python"), 40 * RECEIVED
    run: dict[str, Any] = {"cwd": build, "env": environment(), "stdout": subprocess.PIPE, "text": True}
    server = PostgresServer().start()
    try:
        url = server.url()
        seeded = subprocess.run([python, "-c", SEED, url, str(summaries)], check=True, **run)
        posts = json.loads(seeded.stdout.splitlines()[-1])
        receiver = webhooks.Receiver(url, core=None, build=build)
        latencies: list[float] = []

        def send() -> None:
            with webhooks.generator(None) as process:
                sent = webhooks.load(process, posts=posts, rate=RECEIVED, port=receiver.port, connections=64)
                latencies.extend(sent["latencies"])

        sending = threading.Thread(target=send)
        sending.start()
        locks = Locks(server)
        worker = [
            python,
            "-m",
            "bench.rung",
            "worker",
            "--port",
            str(port),
            "--calls",
            str(calls),
            "--store",
            url,
        ]
        rates = json.loads(subprocess.run(worker, check=True, **run).stdout.splitlines()[-1])
        seen = locks.end()
        still = sending.is_alive()
        sending.join()
        receiver.end()
    finally:
        server.close()
    latencies.sort()
    return {"build": str(build), **rates, **seen, "summaries_all_the_while": still,
            "summary_p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
            "summary_p99_ms": round(1000 * latencies[len(latencies) * 99 // 100], 1)}  # fmt: skip


def locks(builds: Sequence[Path], *, calls: int, rounds: int) -> None:
    """The figures of builds, in turns."""
    with sink() as port:
        for _ in range(rounds):
            for build in builds:
                told(**beside_a_receiver(build, calls=calls, port=port))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["redis", "postgres", "locks"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=50)
    parser.add_argument("--first", action="store_true", help="the server goes before all other processes")
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--against", type=Path)
    given = parser.parse_args()
    if given.what == "locks":
        builds = [Path.cwd(), *([given.against] if given.against else [])]
        locks(builds, calls=given.calls, rounds=given.rounds)
    else:
        steady(given.what, minutes=given.minutes, rate=given.rate, first=given.first)


if __name__ == "__main__":
    main()
