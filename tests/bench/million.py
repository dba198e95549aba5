"""A million calls in 300 batches: how soon batches, totals and the overview are shown, and what a report needs.

python -m tests.bench.million fill URL [--calls N]     fills an empty store
python -m tests.bench.million look URL                 the batches, and the overview of a receiver
python -m tests.bench.million read URL                     status, totals and a whole report, by Python and by command
python -m tests.bench.million report URL FOLDER        all calls into a CSV and an Excel file
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path

import httpx

from tests.support.processes import running
from tests.webhooks.signing_in import Form
from voiceflow_worker import CallQueue, JobState, SessionStatus, open_store
from voiceflow_worker.core.overview.batches import read_batches
from voiceflow_worker.core.ports.batch_names import BatchNames
from voiceflow_worker.core.ports.queue_names import QueueNames
from voiceflow_worker.model.jobs.job import Job, KeyPress, Post
from voiceflow_worker.model.reports.charge import Charge
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.verdict import VerdictKind

BATCHES = 300
WAITING = 20
"""One call of so many waits for its turn."""
SECRET = "to-look-at-it"
LOOKS = 20
ENDS = [SessionStatus.COMPLETED] * 15 + [SessionStatus.NO_ANSWER] * 3 + [SessionStatus.BUSY, SessionStatus.FAILED]
BODY = json.dumps(
    {
        "callflow": [
            {"action": "makeCall", "params": {"source": "+6531234567", "destination": "%s"}},
            {
                "action": "say",
                "params": {
                    "text": "Hello Customer. Your parcel comes tomorrow. Please be at home.",
                    "voiceProfile": "en-US-JennyNeural",
                },
            },
        ]
    }
)


def calls(count: int, *, now: datetime) -> Iterator[Job]:
    """So many calls, of which most have ended, spread over the batches."""
    for place in range(count):
        number = f"+65{80000000 + place}"
        job_id = f"default.{place:026d}"
        batch_id = f"batch-{place * BATCHES // count:03d}"
        began = now - timedelta(days=1) + timedelta(seconds=place * 0.05)
        waits = place % WAITING == 0
        status = ENDS[place % len(ENDS)]
        posts = () if waits else (_post(job_id, place, number, status, began),)
        ended = JobState.COMPLETED if status is SessionStatus.COMPLETED else JobState.UNREACHED
        yield Job(
            id=job_id,
            queue="default",
            state=JobState.QUEUED if waits else ended,
            due_at=now + timedelta(days=30),
            revision=f"r{place}",
            batch_id=batch_id,
            destination=number,
            unique_key=f"parcel-{place}",
            body=BODY % number,
            body_digest="d",
            source="+6531234567",
            created_at=began,
            data={"name": f"Customer {place}", "parcel": f"P{place:07}"},
            posts=posts,
            post_count=len(posts),
        )


def _post(job_id: str, place: int, number: str, status: SessionStatus, began: datetime) -> Post:
    answered = status is SessionStatus.COMPLETED
    seconds = 20.0 + place % 30
    leg = CallLeg(call_id=f"call-{place}", source="+6531234567", destination=number, status=status.value)
    return Post(
        number=1,
        client_request_id=f"{job_id}.1",
        began_at=began,
        valid_until=began + timedelta(seconds=120),
        answered_at=began,
        verdict=VerdictKind.CREATED,
        session_id=f"session-{place}",
        presses=(KeyPress(at=began, menu="main", digits=str(1 + place % 3)),) if answered else (),
        charge=Charge(price=Decimal("0.04"), currency="USD", billed_seconds=60.0) if answered else None,
        outcome=Outcome(
            status=status,
            status_text=status.value,
            session_id=f"session-{place}",
            started_at=began,
            ended_at=began + timedelta(seconds=seconds),
            seconds=seconds,
            legs=(leg,),
        ),
    )


async def fill(url: str, count: int) -> None:
    """Fill a store."""
    now = datetime.now(UTC)
    async with open_store(url) as store:
        await QueueNames(store).remember("default")
        await BatchNames(store, "default").keep(f"batch-{place:03d}" for place in range(BATCHES))
        made, began = calls(count, now=now), time.monotonic()
        while page := list(islice(made, 1000)):
            await store.jobs.enqueue(page, now=now)
        told(filled=count, seconds=round(time.monotonic() - began))


async def look_at_batches(url: str) -> None:
    """Read the batches again and again."""
    async with open_store(url) as store:
        times: list[float] = []
        batches = await read_batches(store, "default")
        for _ in range(LOOKS):
            began = time.perf_counter()
            batches = await read_batches(store, "default")
            times.append(time.perf_counter() - began)
    calls_of_all = sum(each.total for each in batches)
    told(what="the batches", batches=len(batches), calls=calls_of_all, **_ms(times))


async def read(url: str) -> None:
    """Read the status and the totals again and again, and the whole report once."""
    async with open_store(url) as store:
        queue = CallQueue(store)

        async def look(ask: Callable[[], Awaitable[object]]) -> list[float]:
            times: list[float] = []
            for _ in range(1 + LOOKS):
                began = time.perf_counter()
                await ask()
                times.append(time.perf_counter() - began)
            return times[1:]  # the first one loads modules

        told(what="status", **_ms(await look(queue.status)))
        told(what="totals", **_ms(await look(partial(queue.report, totals_only=True))))
        began, used = time.perf_counter(), time.process_time()
        found = await queue.report()
        took, spent = time.perf_counter() - began, time.process_time() - used
        told(what="report", calls=found.total, seconds=round(took, 2), processor_seconds=round(spent, 2))


def read_by_command(url: str) -> None:
    """Run the commands for the same, and one that reads nothing: its time is that of the start."""
    with tempfile.TemporaryDirectory() as compiled:
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}
        report = ["report", "--store", url]
        for words in (["--version"], ["status", "--store", url], [*report, "--totals"], report):
            times: list[float] = []
            for _ in range(6):
                began = time.perf_counter()
                command = [sys.executable, "-m", "voiceflow_worker", *words]
                subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
                times.append(time.perf_counter() - began)
            told(what=" ".join(["voiceflow", *words]), **_ms(times[1:]))  # the first one compiles the modules


def look_at_overview(url: str) -> None:
    """Open the overview of a receiver again and again."""
    env = {"VOICEFLOW_STORE": url, "VOICEFLOW_UI_SECRET": SECRET}
    with running("serve", "--port", "0", env=env) as receiver:
        home = receiver.wait_for(r"(http://127\.0\.0\.1:\d+)/webhooks/8x8")[1]
        with httpx.Client(base_url=home, trust_env=False, timeout=60, headers={"Origin": home}) as client:
            form = Form(client.get("/ui").text)
            client.post("/ui/sign-in", data=form.values(name="Bench", secret=SECRET))
            times: list[float] = []
            for _ in range(LOOKS):
                time.sleep(1.1)  # what was read for the look before is then too old
                began = time.perf_counter()
                answer = client.get("/ui")
                times.append(time.perf_counter() - began)
                assert answer.status_code == 200, answer.text
                assert "batch-000" in answer.text
    told(what="the overview", first_ms=round(1000 * times[0], 1), **_ms(times[1:]))


def report(url: str, folder: Path) -> None:
    """Write the report of all calls, and tell the most memory that the command had."""
    files = ("--csv", str(folder / "million.csv"), "--xlsx", str(folder / "million.xlsx"))
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "voiceflow_worker", "report", "--store", url, *files])
    _, status, used = os.wait4(child.pid, 0)
    told(
        exit=os.waitstatus_to_exitcode(status),
        seconds=round(time.monotonic() - began),
        processor_seconds=round(used.ru_utime + used.ru_stime),
        peak_mb=round(used.ru_maxrss / 1024, 1),
        bytes={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    )


def _ms(times: list[float]) -> dict[str, float]:
    return {
        "median_ms": round(1000 * statistics.median(times), 1),
        "least_ms": round(1000 * min(times), 1),
        "most_ms": round(1000 * max(times), 1),
    }


def told(**figures: object) -> None:
    """One line of figures."""
    print(json.dumps(figures), flush=True)  # noqa: T201 - this is a command


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fill", "look", "read", "report"])
    parser.add_argument("url")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--calls", type=int, default=1_000_000)
    given = parser.parse_args()
    match given.what:
        case "fill":
            asyncio.run(fill(given.url, given.calls))
        case "look":
            asyncio.run(look_at_batches(given.url))
            look_at_overview(given.url)
        case "read":
            asyncio.run(read(given.url))
            read_by_command(given.url)
        case _:
            report(given.url, given.folder)
