"""A server that is killed in the middle of a start, and asked again with the same key."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import httpx
import pytest

from tests.api.clients import SECRET
from tests.support.processes import Process
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.core.ports.reading import starts_of

ROWS = 5000
STEPS = (1, 2000, 4000)
"""The numbers of stored calls at which the server is killed, with the process that stores them."""
DEFINITION = '{"say": "Hello {{name}}.", "not_before": "tomorrow 09:00", "time_zone": "Asia/Singapore"}'


@contextmanager
def server(store: str) -> Generator[tuple[Process, str]]:
    serving = Process(
        "serve", "--api", "--port", "0",
        env={
            "VOICEFLOW_STORE": store, "VOICEFLOW_API_SECRET": SECRET, "VOICEFLOW_SOURCE": "+6531234567",
            "VOICEFLOW_VOICE_PROFILE": "en-IE-EmilyNeural",
        },
    )  # fmt: skip
    try:
        yield serving, serving.wait_for(r"http://127\.0\.0\.1:\d+").group()
    finally:
        serving.end(signal.SIGKILL)


def kill(serving: Process) -> None:
    """End the server without warning, and the process that stores rows for it."""
    children = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()
    for pid in map(int, children):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    serving.end(signal.SIGKILL)


async def stored(store: str) -> tuple[int, int, set[str]]:
    """The calls of the campaign, the starts that stand, and the times at which calls are due."""
    async with open_store(store) as opened:
        jobs = await CallQueue(opened).find(batch_id="march", limit=None)
        return len(jobs), len(await starts_of(opened, "default")), {str(job.due_at) for job in jobs}


def ask(address: str, people: bytes) -> httpx.Response:
    return httpx.post(
        f"{address}/v1/campaigns",
        files={"definition": (None, DEFINITION, "application/json"), "file": ("people.csv", people)},
        headers={"Authorization": f"Bearer {SECRET}", "Idempotency-Key": "march"},
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_campaign_that_was_cut_is_whole_and_once_when_it_is_asked_for_again(store_url: str) -> None:
    people = "destination,name\n" + "".join(f"+65{80000000 + place},Ana\n" for place in range(ROWS))
    cut = 0
    for step in STEPS:
        with server(store_url) as (serving, address):
            asking = threading.Thread(target=lambda to=address: _quietly(to, people.encode()))
            asking.start()
            while asking.is_alive() and anyio.run(stored, store_url)[0] < step:
                time.sleep(0.01)
            cut += asking.is_alive()
            kill(serving)
            asking.join()
        calls, starts, _ = anyio.run(stored, store_url)
        assert starts or calls in {0, ROWS}, "what was cut lets nobody ring"
    with server(store_url) as (_, address):
        done, again = ask(address, people.encode()), ask(address, people.encode())
        assert (done.status_code, again.status_code) == (200, 200), done.text
        assert done.json()["enqueued"] + done.json()["duplicates"] == ROWS
        assert (again.json()["enqueued"], again.json()["duplicates"]) == (0, ROWS)
        shown = httpx.get(f"{address}/v1/batches/march", headers={"Authorization": f"Bearer {SECRET}"}).json()
        assert (shown["total"], shown["hold"]) == (ROWS, None)
    calls, starts, due = anyio.run(stored, store_url)
    assert (calls, starts, len(due)) == (ROWS, 0, 1)
    assert cut, "it was killed while it stored rows"
    assert re.search(r" 01:00:00", due.pop())


def _quietly(address: str, people: bytes) -> None:
    with suppress(httpx.HTTPError):
        ask(address, people)
