"""What browsers cost that watch a campaign: processor time of the receiver and of the worker, without and with them.

`python -m tests.bench.watchers [--browsers 200] [--rate 50] [--seconds 20]`. Half of the browsers watch the overview,
half the batch, and each asks every two seconds, as the script of the pages does. A sandbox answers the worker, and its
summaries come to the receiver that shows the pages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.support.redis_server import standalone, system_server
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until
from tests.webhooks.signing_in import READERS, Form

LIVE = "x-voiceflow-live"
EVERY = 2.0
PAGES = ("/ui", "/ui/batches/campaign?queue=default")
HEADROOM = 30
"""Seconds of calls beyond those that are measured."""


def processor_seconds(pid: int) -> float:
    """The processor time of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def browse(client: httpx.AsyncClient, page: str, *, until: float, waits: list[float], took: list[float]) -> None:
    """One browser: it asks for the live part of its page until then."""
    tag = ""
    await asyncio.sleep(waits.pop())  # browsers do not ask together
    while time.monotonic() < until:
        began = time.monotonic()
        answer = await client.get(page, headers={LIVE: tag})
        assert answer.status_code in {200, 304}, answer.text
        tag = answer.headers.get("ETag", tag)
        took.append(time.monotonic() - began)
        await asyncio.sleep(max(0.0, EVERY - took[-1]))  # the interval of the script


async def watch(home: str, browsers: int, seconds: float) -> list[float]:
    """So many browsers for so long; gives how long each answer took."""
    took: list[float] = []
    limits = httpx.Limits(max_connections=browsers, max_keepalive_connections=browsers)
    async with httpx.AsyncClient(
        base_url=home, trust_env=False, timeout=30, limits=limits, headers={"Origin": home}
    ) as client:
        form = Form((await client.get("/ui")).text)
        await client.post("/ui/sign-in", data=form.values(name="Bench", secret=READERS))
        until = time.monotonic() + seconds
        waits = [EVERY * place / browsers for place in range(browsers)]
        pages = (PAGES[place % len(PAGES)] for place in range(browsers))
        await asyncio.gather(*(browse(client, page, until=until, waits=waits, took=took) for page in pages))
    return took


def measure(on: Stage, pids: Sequence[int], browsers: int, seconds: float) -> Mapping[str, object]:
    """Shares of one core, and calls a second, in this time."""
    before = [processor_seconds(each) for each in pids]
    rang, began = len(on.rang()), time.monotonic()
    took = asyncio.run(watch(on.receiver, browsers, seconds)) if browsers else []
    if not browsers:
        time.sleep(seconds)  # what is measured is this time
    after = [processor_seconds(each) for each in pids]
    lasted = time.monotonic() - began
    receiver_share, worker_share = ((b - a) / lasted for a, b in zip(before, after, strict=True))
    return {
        "browsers": browsers,
        "polls_a_second": round(len(took) / lasted, 1),
        "receiver_percent_of_a_core": round(100 * receiver_share, 1),
        "worker_percent_of_a_core": round(100 * worker_share, 1),
        "calls_a_second": round((len(on.rang()) - rang) / lasted, 1),
        "median_ms": round(1000 * statistics.median(took), 1) if took else None,
        "slowest_ms": round(1000 * max(took), 1) if took else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browsers", type=int, default=200)
    parser.add_argument("--rate", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--redis", action="store_true")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        server = standalone(folder / "redis", binary=system_server()).start() if given.redis else None
        try:
            with stage(folder, store=None if server is None else server.url, speed=20, ui_secret=READERS) as on:
                on.campaign(round(given.rate * (4 * given.seconds + HEADROOM)))
                with on.worker("--rate", str(given.rate)) as worker:
                    wait_until(lambda: len(on.rang()) > 5 * given.rate, "a campaign under way")
                    for browsers in (0, given.browsers, 0, given.browsers):
                        figures = measure(on, (on.pids[0], worker.pid), browsers, given.seconds)
                        print(json.dumps(figures), flush=True)  # noqa: T201 - this is a command
        finally:
            if server is not None:
                server.kill()


if __name__ == "__main__":
    main()
