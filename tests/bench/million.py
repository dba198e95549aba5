"""A million calls in 300 batches: how soon their status, totals and report are read.

python -m tests.bench.million fill URL [--calls N]     fills an empty store
python -m tests.bench.million read URL               status, totals and a whole report
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice

from voiceflow_worker import CallQueue, JobState, SessionStatus, open_store
from voiceflow_worker.backends.contract.samples import add_jobs
from voiceflow_worker.core.ports.names import QueueNames, batch_puts
from voiceflow_worker.core.ports.store import Step, Unit
from voiceflow_worker.model.jobs.job import Job, KeyPress, Post
from voiceflow_worker.model.reports.outcome import CallLeg, Charge, Outcome
from voiceflow_worker.model.reports.verdict import VerdictKind

BATCHES = 300
WAITING = 20
"""One call of so many waits for its turn."""
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
        named = (batch_puts("default", f"batch-{place:03d}", at=now, is_campaign=True) for place in range(BATCHES))
        await store.write(Step(units=tuple(Unit(puts=puts) for puts in named)), now=now)
        made, began = calls(count, now=now), time.monotonic()
        while page := list(islice(made, 1000)):
            await add_jobs(store, page, now=now)
        told(filled=count, seconds=round(time.monotonic() - began))


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
    parser.add_argument("what", choices=["fill", "read"])
    parser.add_argument("url")
    parser.add_argument("--calls", type=int, default=1_000_000)
    given = parser.parse_args()
    match given.what:
        case "fill":
            asyncio.run(fill(given.url, given.calls))
        case _:
            asyncio.run(read(given.url))
