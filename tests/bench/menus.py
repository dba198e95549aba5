"""The time to answer a call action event (VCA), with 200 calls in their menus.

Starts `voiceflow serve --ivr tests.ivr.restaurant:main` on a fresh store, puts 200 jobs there whose calls are up, and
lets 200 callers press keys, each a few seconds after they heard the answer, as people do. Prints medians of several
runs; a machine that is shared makes single runs worthless.

    python tests/bench/menus.py --runs 5

Where other programs keep the processors busy, `chrt -f 10 python …` (as root) measures what they would leave out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import aiohttp
import anyio

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.ivr.asking import OURS, SECRET, Line  # noqa: E402 - a script finds its neighbours only now
from tests.ivr.restaurant import main as menu  # noqa: E402
from tests.support.engine import Engine  # noqa: E402
from tests.support.flows import number  # noqa: E402
from tests.support.processes import running  # noqa: E402
from tests.support.voices import ScriptedVoice  # noqa: E402
from voiceflow_worker import CallRequest, Job, open_store  # noqa: E402

KEYS = ("1", "1", "7", "4#", "2", "1", "9", "2", None)


async def calls_up(store_url: str, calls: int) -> list[Job]:
    """Jobs whose calls are up, each with a session."""
    async with open_store(store_url) as store:
        engine = Engine(store, ScriptedVoice())
        data = [{"name": f"Customer {place}"} for place in range(calls)]
        requests = [
            CallRequest(flow=menu.call(number(place), source=OURS, data=data[place]), menu="main", data=data[place])
            for place in range(calls)
        ]
        made = await engine.queue.enqueue_many(requests)
        while await engine.send():
            pass
        return [each.job for each in made]


async def talk(
    client: aiohttp.ClientSession, url: str, job: Job, *, until: float, think: float, times: list[float]
) -> None:
    """One person: thinks, presses a key, hears the answer, and calls again when the call is over."""
    dice = Random(job.id)
    line = Line.of(job)
    await asyncio.sleep(dice.uniform(0, think))  # persons do not all begin at once
    while time.perf_counter() < until:
        content = json.dumps(line.event(dice.choice(KEYS))).encode()
        began = time.perf_counter()
        async with client.post(url, data=content, headers={"Authorization": SECRET}) as response:
            body = await response.read()
        times.append(time.perf_counter() - began)
        assert response.status == 200, body
        if not line.took(body).asks:
            line.token = None  # the next event begins again at the first menu, as the first of a call does
        await asyncio.sleep(dice.uniform(0.5 * think, 1.5 * think))  # a person thinks


async def one_run(store_url: str, url: str, *, calls: int, seconds: float, think: float) -> dict[str, float]:
    jobs = await calls_up(store_url, calls)
    times: list[float] = []
    connector = aiohttp.TCPConnector(limit=calls)
    async with aiohttp.ClientSession(connector=connector) as client:
        until = time.perf_counter() + seconds
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(talk(client, url, job, until=until, think=think, times=times))
        async with client.get(url.rpartition("/webhooks")[0] + "/metrics") as response:
            server = histogram(await response.text(), "voiceflow_webhook_seconds")
    ordered = sorted(times)
    return {
        "answers": len(times),
        "per_second": len(times) / seconds,
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[int(len(ordered) * 0.99)],
        "worst_ms": 1000 * ordered[-1],
        "server_within_25_ms": server(0.025),
    }


def histogram(metrics: str, name: str) -> Callable[[float], float]:
    """The share of a histogram that is not above a bound, as the receiver itself measured it."""
    counts = {
        line.split('le="')[1].split('"')[0]: float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith(f"{name}_bucket")
    }
    return lambda bound: counts[str(bound)] / counts["+Inf"]


def cpu_of(pid: int) -> float:
    """Seconds of processor time that a process has used (Linux, proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--think", type=float, default=3.0, help="seconds between an answer and the next key")
    parser.add_argument("--store", help="a store URL; a fresh SQLite file for each run unless given")
    given = parser.parse_args()
    runs: list[dict[str, float]] = []
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            store = given.store or f"sqlite:///{folder}/calls.db"
            env = {"VOICEFLOW_STORE": store, "VOICEFLOW_WEBHOOK_SECRET": SECRET, "VOICEFLOW_LOG_LEVEL": "critical"}
            with running("serve", "--port", "0", "--ivr", "tests.ivr.restaurant:main", env=env) as server:
                url = server.wait_for(r"(http://127\.0\.0\.1:\d+/webhooks/8x8)")[1]

                async def measure(store: str = store, url: str = url) -> dict[str, float]:
                    return await one_run(store, url, calls=given.calls, seconds=given.seconds, think=given.think)

                before = cpu_of(server.pid)
                run = anyio.run(measure)
                run["server_cpu_ms"] = 1000 * (cpu_of(server.pid) - before) / run["answers"]
                runs.append(run)
        print(json.dumps({name: round(value, 2) for name, value in runs[-1].items()}), flush=True)  # noqa: T201
    medians = {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}
    print(json.dumps({"calls": given.calls, "runs": given.runs, "medians": medians}))  # noqa: T201


if __name__ == "__main__":
    main()
