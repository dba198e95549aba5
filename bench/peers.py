"""This worker beside other queue libraries: jobs and enqueued jobs per second of processor time, in one run.

    ./dev bench-peers                       taskiq and streaq, on this product's transport and as shipped
    ./dev bench-peers --only streaq --rounds 1

The same sink, one process for each measurement, 50 in flight, Redis on this machine. This product journals each call,
in Redis with appendfsync always and in its journal file. The peers have no journal, and a Redis that writes nothing to
the disk. The first run installs the libraries into a folder of their own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench.throughput import Rung, measured, rates_of, running_redis, sink, summary
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("taskiq, streams and results", "taskiq, list", "streaq")
TRANSPORTS = ("fast", "shipped")
OURS = {
    "bare loop of client.post": Rung("bare", "bare"),
    "this worker, Redis, journal file": Rung("worker", "worker", "redis", guard=True),
    "this worker, SQLite, journal file": Rung("worker", "worker", "sqlite", guard=True),
    "enqueue: this queue, Redis": Rung("ready", "ready", "redis"),
}

Rates = dict[str, float]


def peer_command(name: str, what: str) -> list[str]:
    """The beginning of a command of `peer.py`, by a virtual environment with the peers, made if it is missing."""
    folder = ROOT / "build" / "venv-bench"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-e", f"{ROOT}[redis,bench]"], check=True)
    return [str(python), "-m", "bench.peer", name, what]


def of_peer(name: str, what: str, *, port: int, transport: str, calls: int) -> Rates:
    """The rates of one peer, from a process of its own."""
    with running_redis(RedisServer) as url:  # which writes nothing to the disk
        command = [*peer_command(name, what), "--port", str(port), "--redis", url, "--transport", transport]
        command += ["--calls", str(calls)]
        return rates_of(command)


def one_round(peers: list[str], *, port: int, calls: int) -> dict[str, Rates]:
    """The rates of everything, one after the other."""
    found = {name: measured(rung, port=port, calls=calls) for name, rung in OURS.items()}
    for name in peers:
        for transport in TRANSPORTS:
            found[f"{name}, {transport}"] = of_peer(name, "work", port=port, transport=transport, calls=calls)
        found[f"enqueue: {name}"] = of_peer(name, "enqueue", port=port, transport="fast", calls=calls)
    return found


def ratios(rates: dict[str, Rates], peers: list[str]) -> dict[str, float]:
    """How this product compares in one round."""
    each = {name: found["per_cpu_second"] for name, found in rates.items()}
    best = {what: max(each[what.format(name)] for name in peers) for what in ("enqueue: {}", "{}, fast", "{}, shipped")}
    ours, bare = each["this worker, Redis, journal file"], each["bare loop of client.post"]
    return {
        "Redis worker / bare loop": ours / bare,
        "SQLite worker / bare loop": each["this worker, SQLite, journal file"] / bare,
        "Redis worker / best peer on the same transport": ours / best["{}, fast"],
        "Redis worker / best peer as shipped": ours / best["{}, shipped"],
        "enqueue_many / best peer": each["enqueue: this queue, Redis"] / best["enqueue: {}"],
    }


def table(figures: dict[str, dict[str, float]], title: str, *, digits: int) -> str:
    """Medians with their spread, as a Markdown table."""
    lines = [f"| | {title} (least to most) |", "|---|---|"]
    lines += [
        f"| {name} | {found['median']:,.{digits}f} ({found['least']:,.{digits}f} to {found['most']:,.{digits}f}) |"
        for name, found in figures.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3000, help="calls of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only peers whose name contains this")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    peers = [name for name in PEERS if wanted.only in name]
    with sink() as port:
        rounds = [one_round(peers, port=port, calls=wanted.calls) for _ in range(wanted.rounds)]
    rates = {name: summary([each[name]["per_cpu_second"] for each in rounds]) for name in rounds[0]}
    compared = [ratios(each, peers) for each in rounds]
    found = {name: summary([each[name] for each in compared], digits=2) for name in compared[0]}
    if wanted.json:
        print(json.dumps({"per_cpu_second": rates, "ratios": found}, indent=2))  # noqa: T201
        return
    print(table(rates, "per CPU second", digits=0))  # noqa: T201
    print()  # noqa: T201
    print(table(found, "ratio", digits=2))  # noqa: T201


if __name__ == "__main__":
    main()
