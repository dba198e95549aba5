"""Throughput: rows enqueued per second, and calls sent per second of the worker's own CPU time.

Run with `./dev bench`. Prints medians of several runs; a machine that is shared makes single runs worthless.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def rows(path: Path, count: int) -> None:
    """A campaign of `count` valid rows."""
    lines = ["destination,name,appointment"]
    lines += [f"+65{80000000 + place},Customer {place},10:30" for place in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def timed(*command: str, env: dict[str, str]) -> tuple[float, float, str]:
    """Wall seconds, CPU seconds (user and system, of the process itself) and stdout of one command."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "voiceflow_worker", *command], env=env, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, told


def one_run(store: str, campaign: Path, calls: int, port: int) -> dict[str, float]:
    """Enqueue and send one campaign."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("VOICEFLOW_")}
    env |= {
        "VOICEFLOW_API_KEY": "bench",
        "VOICEFLOW_SUB_ACCOUNT": "bench",
        "VOICEFLOW_BASE_URL": f"http://127.0.0.1:{port}",
        "VOICEFLOW_OUTCOMES": "none",
        "VOICEFLOW_LOG_LEVEL": "warning",
    }
    say = ("--say", "Hello {{name}}, we expect you at {{appointment}}.", "--voice-profile", "en-IE-EmilyNeural")
    enqueue_wall, enqueue_cpu, _ = timed(
        "enqueue", str(campaign), "--store", store, "--source", "+6531234567", *say, "--json", env=env
    )
    worker_wall, worker_cpu, _ = timed(
        "worker", "--store", store, "--rate", "unlimited", "--concurrency", "50", "--drain", "--json", env=env
    )
    _, _, told = timed("status", "--store", store, "--json", env=env)
    accepted = json.loads(told)["states"]["accepted"]
    if accepted != calls:
        raise SystemExit(f"{accepted} of {calls} calls were accepted")
    return {
        "enqueue rows/s": calls / enqueue_wall,
        "enqueue rows/cpu s": calls / enqueue_cpu,
        "worker calls/s": calls / worker_wall,
        "worker calls/cpu s": calls / worker_cpu,
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--store", help="a store URL; each run uses a queue file of its own by default")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Path(folder) / "campaign.csv"
        rows(campaign, wanted.calls)
        results = []
        for run in range(wanted.runs):
            with subprocess.Popen(
                [sys.executable, str(ROOT / "tests/support/sink.py")], stdout=subprocess.PIPE, text=True
            ) as sink:
                assert sink.stdout is not None
                port = int(sink.stdout.readline())
                try:
                    store = wanted.store or f"sqlite:///{folder}/run{run}.db"
                    results.append(one_run(store, campaign, wanted.calls, port))
                finally:
                    sink.send_signal(signal.SIGTERM)
        for figure in results[0]:
            values = [result[figure] for result in results]
            print(f"{figure:20} median {statistics.median(values):8.0f}   of {[round(value) for value in values]}")  # noqa: T201


if __name__ == "__main__":
    main()
