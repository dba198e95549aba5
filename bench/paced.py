"""Paced: the processor time of a call at the rates that people use, beside a bare loop of POSTs at the same rate.

    ./dev bench paced [--calls 300] [--rounds 3] [--store sqlite] [--baseline CHECKOUT] [--json]

Each round measures `voiceflow worker` as it is shipped (journal files, a log at `info`) at 10 and at 50 calls a second
on each store, the same of the checkout `--baseline`, and httpx over aiohttp, one after the other against one sink. The
time is user and system of the worker's process, from a few seconds after its first call on; what it does beside its
calls counts. How many functions run for a call, and how often the loop turns, is counted in a process of its own
(`function_calls.py`): these figures a busy machine does not change. Figures are medians of the rounds, ratios are of
one round each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

from bench.throughput import environment, sink, store, summary

ROOT = Path(__file__).resolve().parents[1]
STORES = ("sqlite", "redis", "postgres")
RATES = (10, 50)
WARM_UP = 3.0
"""Seconds from the first call until the time is measured."""
WITHIN = 60.0
"""Seconds until the first call."""
COUNTED = (("functions", 0), ("turns", 1))
TICKS = os.sysconf("SC_CLK_TCK")
BARE = "bare loop, httpx over aiohttp"


def bare_loop() -> list[str]:
    """The beginning of the command of the bare loop, by a virtual environment of its own, made if it is missing."""
    python = ROOT / "build" / "venv-aiohttp" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "httpx-aiohttp"], check=True)
    return [str(python), str(ROOT / "bench" / "bare_loop.py")]


def processor_seconds(pid: int) -> float:
    """The processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def requests_at(port: int) -> int:
    """How many requests came to the sink, with this one: it numbers its answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    session: str = json.loads(connection.getresponse().read())["sessionId"]
    connection.close()
    return int(session.removeprefix("s-"))


def cost(command: list[str], *, port: int, rate: int, calls: int, env: dict[str, str], cwd: Path) -> dict[str, float]:
    """The milliseconds of the processor that a call costs a process that sends at a rate, and the rate it had."""
    with subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            seen, ends = requests_at(port), time.monotonic() + WITHIN
            while (now := requests_at(port)) == seen + 1:
                if process.poll() is not None or time.monotonic() > ends:
                    raise SystemExit(f"no call came from {' '.join(command)}")
                seen = now
                time.sleep(0.1)
            time.sleep(WARM_UP)
            began, used, seen = time.monotonic(), processor_seconds(process.pid), requests_at(port)
            time.sleep(calls / rate)
            used, sent = processor_seconds(process.pid) - used, requests_at(port) - seen - 1
            return {"cpu_ms": 1000 * used / sent, "per_second": sent / (time.monotonic() - began)}
        finally:
            process.kill()


def worker_environment(build: Path, folder: str, url: str, *, port: int, log_level: str = "info") -> dict[str, str]:
    """The environment of a worker of this build, with its files in a folder."""
    return environment() | {
        "PYTHONPATH": str(build),
        "XDG_STATE_HOME": folder,
        "VOICEFLOW_STORE": url,
        "VOICEFLOW_BASE_URL": f"http://127.0.0.1:{port}",
        "VOICEFLOW_API_KEY": "bench",
        "VOICEFLOW_SUB_ACCOUNT": "bench",
        "VOICEFLOW_OUTCOMES": "none",
        "VOICEFLOW_LOG_LEVEL": log_level,
    }


def of_worker(build: Path, kind: str, *, port: int, rate: int, calls: int) -> dict[str, float]:
    """The cost of a call of a worker of this build, on a fresh store of this kind."""
    with tempfile.TemporaryDirectory() as folder, store(kind) as url:
        env = worker_environment(build, folder, url, port=port)
        spare = calls + int(rate * (WARM_UP + 10))
        fill = [sys.executable, "-m", "bench.rung", "ready", "--port", "0", "--calls", str(spare), "--store", url]
        subprocess.run(fill, env=env, cwd=build, stdout=subprocess.DEVNULL, check=True)
        command = [sys.executable, "-m", "voiceflow_worker", "worker", "--rate", str(rate)]
        found = cost(command, port=port, rate=rate, calls=calls, env=env, cwd=build)
    with store(kind) as url:
        command = [sys.executable, str(ROOT / "bench" / "function_calls.py"), "--store", url]
        command += ["--port", str(port), "--rate", str(rate), "--calls", str(calls)]
        run = subprocess.run(command, env=env, cwd=build, stdout=subprocess.PIPE, check=True)
    return {**found, **json.loads(run.stdout.splitlines()[-1])}


def one_round(builds: dict[str, Path], kinds: list[str], *, port: int, calls: int) -> dict[str, dict[str, float]]:
    """The figures of everything, one after the other."""
    found = dict[str, dict[str, float]]()
    for rate in RATES:
        bare = cost(
            [*bare_loop(), str(port), str(rate)], port=port, rate=rate, calls=calls, env=environment(), cwd=ROOT
        )
        found[f"{BARE}, {rate}/s"] = {**bare, "ratio": 1.0}
        for kind in kinds:
            for name, build in builds.items():
                worker = of_worker(build, kind, port=port, rate=rate, calls=calls)
                found[f"{name}, {kind}, {rate}/s"] = {**worker, "ratio": worker["cpu_ms"] / bare["cpu_ms"]}
    return found


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| program, rate | CPU ms a call (least to most) | ratio to the bare loop | functions, turns | sent a second |",
        "|---|---|---|---|---|",
    ]
    for name, found in figures.items():
        cpu, ratio = found["cpu_ms"], found["ratio"]
        counts = [f"{found[each]['median']:.{digits}f}" for each, digits in COUNTED if each in found]
        lines.append(
            f"| {name} | {cpu['median']:.2f} ({cpu['least']:.2f} to {cpu['most']:.2f}) "
            f"| {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f}) "
            f"| {', '.join(counts)} | {found['per_second']['median']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300, help="calls of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", choices=[*STORES, "all"], default="all")
    parser.add_argument("--baseline", type=Path, help="another checkout, measured in turns")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    builds = {"worker": ROOT, **({"baseline": wanted.baseline.resolve()} if wanted.baseline else {})}
    kinds = list(STORES) if wanted.store == "all" else [wanted.store]
    with sink() as port:
        rounds = [one_round(builds, kinds, port=port, calls=wanted.calls) for _ in range(wanted.rounds)]
    figures = {
        name: {figure: summary([each[name][figure] for each in rounds], digits=2) for figure in rounds[0][name]}
        for name in rounds[0]
    }
    if wanted.json:
        print(json.dumps({"calls": wanted.calls, "rounds": wanted.rounds, "figures": figures}, indent=2))  # noqa: T201
        return
    print(table(figures))  # noqa: T201
    print(f"{wanted.rounds} rounds of {wanted.calls} calls")  # noqa: T201


if __name__ == "__main__":
    main()
