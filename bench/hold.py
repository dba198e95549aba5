"""From `voiceflow hold` typed to nothing leaving, measured at the sandbox: `./dev bench-hold`.

A worker sends a campaign; then the command is typed. The sandbox notes when each call came to it. What counts is the
last call after the command was typed, and when the command returned: from then on, nothing may come.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from bench.throughput import store
from tests.support.processes import running, voiceflow
from tests.support.stage import stage
from tests.support.waiting import wait_until

RATE = 50
QUIET, BUSY = 2.0, 3.0
"""Seconds from the typing of the command to the last call: on a quiet machine, and beside three soaks."""
AFTER = 3.0
"""Seconds for which the sandbox is watched after the command has returned."""
_SPIN = ["-c", "while True: pass"]


def measured(kind: str, *, calls: int, order: tuple[str, ...] = ("hold",)) -> dict[str, float]:
    """How long after it was typed an order stopped the calls, and how many came after it had returned."""
    with tempfile.TemporaryDirectory() as folder, store(kind) as url, stage(Path(folder), store=url) as on:
        on.campaign(calls, "--batch", "march")
        with running("worker", "--rate", str(RATE), env=on.env):
            wait_until(lambda: len(on.ledger()) > RATE, "calls at the sandbox", within=60)
            typed, before = time.time(), os.times()
            done = voiceflow(*order, env=on.env)
            returned, after = time.time(), os.times()
            assert not any("cannot be used" in line for line in done.stderr), done.printed
            time.sleep(AFTER)
            came = [datetime.fromisoformat(entry["at"]).timestamp() for entry in on.ledger()]
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "last_call_after_typed": round(max(0.0, max(came) - typed), 2),
        "returned_after_typed": round(returned - typed, 2),
        "calls_after_return": sum(at > returned for at in came),
        "processor_seconds": round(cpu, 2),
        "calls": len(came),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench-hold", description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "postgres", "redis", "all"), default="all")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="beside so many processes that never rest")
    parser.add_argument("--calls", type=int, default=2000)
    given = parser.parse_args()
    kinds = ("sqlite", "postgres", "redis") if given.store == "all" else (given.store,)
    with ExitStack() as beside:
        for _ in range(given.busy):
            process = beside.enter_context(subprocess.Popen([sys.executable, *_SPIN]))
            beside.callback(process.kill)
        for kind in kinds:
            told = {"store": kind, "busy": given.busy, **measured(kind, calls=given.calls)}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
