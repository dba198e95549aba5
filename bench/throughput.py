"""Throughput: the escalation from a bare loop of POSTs to a whole worker, and rows enqueued per second.

Run with `./dev bench`; with `--baseline CHECKOUT`, the rungs of another build run beside those of this one. Each round
measures all rungs, one after the other, against the same sink; figures are medians of the rounds. A machine that is
shared makes single rounds worthless: compare the ratios, which are of one round each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer, standalone, system_server

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Rung:
    """One step of the escalation: `name` in the table, `kind` for `rung.py`, and what its worker runs on."""

    name: str
    kind: str
    store: str = ""
    guard: bool = False
    build: Path = ROOT


LADDER = (
    Rung("bare loop of client.post", "bare"),
    Rung("bare loop, httpx's pool as shipped", "stock"),
    Rung("gateway: POST, evidence, verdict", "gateway"),
    Rung("worker, memory", "worker", "memory"),
    Rung("worker, SQLite", "worker", "sqlite"),
    Rung("worker, SQLite, journal file", "worker", "sqlite", guard=True),
    Rung("worker, Redis", "worker", "redis"),
    Rung("worker, Redis, journal file", "worker", "redis", guard=True),
    Rung("worker, PostgreSQL", "worker", "postgres"),
    Rung("worker, PostgreSQL, journal file", "worker", "postgres", guard=True),
    Rung("enqueue_many, memory", "ready", "memory"),
    Rung("enqueue_many, SQLite", "ready", "sqlite"),
    Rung("enqueue_many, Redis", "ready", "redis"),
    Rung("enqueue_many, PostgreSQL", "ready", "postgres"),
    Rung("rows of a CSV, SQLite", "rows", "sqlite"),
    Rung("rows of a CSV, Redis", "rows", "redis"),
    Rung("rows of a CSV, PostgreSQL", "rows", "postgres"),
)
"""The stores commit durably: SQLite with synchronous=FULL, Redis with appendfsync always, PostgreSQL as it is made."""


@contextlib.contextmanager
def sink() -> Iterator[int]:
    """The port of a sink in a process of its own."""
    command = [sys.executable, "-m", "bench.sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def store(kind: str) -> Iterator[str]:
    """The URL of a fresh store."""
    if kind == "redis":
        with running_redis(standalone) as url:
            yield url
        return
    if kind == "postgres":
        server = PostgresServer().start()
        try:
            yield server.url()
        finally:
            server.close()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield "memory://" if kind == "memory" else f"sqlite:///{folder}/calls.db"


@contextlib.contextmanager
def running_redis(kind: Callable[..., RedisServer]) -> Iterator[str]:
    """The URL of a fresh server: `standalone`, or a plain `RedisServer`, which writes nothing to the disk."""
    with tempfile.TemporaryDirectory() as folder:
        server = kind(Path(folder) / "redis", binary=system_server())
        server.start()
        try:
            yield server.url
        finally:
            server.kill()


def environment() -> dict[str, str]:
    """The environment of what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VOICEFLOW_")}
    return {**kept, "VOICEFLOW_LOG_LEVEL": "warning"}


def measured(rung: Rung, *, port: int, calls: int) -> dict[str, float]:
    """The rates of one rung, from a process of its own."""
    with store(rung.store) as url:
        command = [sys.executable, "-m", "bench.rung", rung.kind, "--port", str(port)]
        command += ["--calls", str(calls), "--store", url, *(["--guard"] if rung.guard else [])]
        return rates_of(command, rung.build)


def rates_of(command: list[str], build: Path = ROOT) -> dict[str, float]:
    """The rates that a command of a build prints."""
    env = environment() | {"PYTHONPATH": str(build)}
    done = subprocess.run(command, env=env, cwd=build, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])  # the log comes before
    return found


def summary(values: list[float], *, digits: int = 0) -> dict[str, float]:
    """The median and the spread."""
    return {
        name: round(find(values), digits)
        for name, find in (("median", statistics.median), ("least", min), ("most", max))
    }


def escalation(rungs: list[Rung], *, calls: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """The figures of each rung; its ratios are to the bare loop of the same round."""
    rates: dict[str, list[dict[str, float]]] = {rung.name: [] for rung in rungs}
    with sink() as port:
        for _ in range(rounds):
            for rung in rungs:
                rates[rung.name].append(measured(rung, port=port, calls=calls))
    bare = [each["per_cpu_second"] for each in rates[rungs[0].name]]
    return {
        name: {
            "per_cpu_second": summary([each["per_cpu_second"] for each in found]),
            "cpu_us_a_call": summary([1e6 / each["per_cpu_second"] for each in found]),
            "per_second": summary([each["per_second"] for each in found]),
            "ratio": summary([each["per_cpu_second"] / base for each, base in zip(found, bare, strict=True)], digits=2),
        }
        for name, found in rates.items()
    }


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """The escalation as a Markdown table."""
    lines = ["| rung | calls per CPU second (least to most) | CPU µs a call | ratio to the bare loop |"]
    lines.append("|---|---|---|---|")
    for name, found in figures.items():
        rate, ratio = found["per_cpu_second"], found["ratio"]
        lines.append(
            f"| {name} | {rate['median']:,.0f} ({rate['least']:,.0f} to {rate['most']:,.0f}) "
            f"| {found['cpu_us_a_call']['median']:.0f} "
            f"| {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000, help="calls of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="only rungs whose name contains this, and the bare loops")
    parser.add_argument("--baseline", type=Path, help="another checkout, measured in turns")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    began = time.perf_counter()
    rungs = [rung for rung in LADDER if rung.kind in {"bare", "stock"} or (wanted.only or "") in rung.name]
    if wanted.baseline:
        before = partial(replace, build=wanted.baseline.resolve())
        rungs = [each for rung in rungs for each in (rung, before(rung, name=f"{rung.name}, baseline"))]
    figures = escalation(rungs, calls=wanted.calls, rounds=wanted.rounds)
    if wanted.json:
        told = {"calls": wanted.calls, "rounds": wanted.rounds, "escalation": figures}
        print(json.dumps(told, indent=2))  # noqa: T201
        return
    print(table(figures))  # noqa: T201
    print(f"{wanted.rounds} rounds of {wanted.calls} calls, {time.perf_counter() - began:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()
