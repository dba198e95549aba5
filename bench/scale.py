"""Scale: what the everyday operations cost in a small and in a large store, as ratios in one run.

    ./dev bench scale sqlite|redis|postgres [--scale F]

The small store has 200 batches, 2,000 calls and 2,000 numbers on the suppression list; the large one 20,000 batches,
and a million of each, or the fraction F of these. Each operation is measured several times in both, in turns, so that a
busy machine is busy for both; the figures are medians in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, count, islice
from pathlib import Path

from bench.rung import request
from tests.support.postgres import PostgresServer
from tests.support.redis_server import standalone, system_server
from voiceflow_worker import CallPolicy, CallQueue, JobState, SessionStatus, open_store
from voiceflow_worker.backends.postgres import PostgresStore
from voiceflow_worker.core.base.identity import QueueNames, batch_puts
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Result, Write
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import Suppression, entry_put
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.core.writes import inserted, journal_entry, settled
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, KeyPress, Post
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.reporting.batches import read_batches, read_queues

WAITING = 20
"""One call of so many waits for its turn."""
LOOKS = 11
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


def calls(amount: int, *, now: datetime) -> Iterator[Job]:
    """So many calls without a batch, of which most have ended."""
    for place in range(amount):
        called = number(place)
        job_id = f"default.{place:026d}"
        began = now - timedelta(days=1) + timedelta(seconds=place * 0.05)
        waits = place % WAITING == 0
        status = ENDS[place % len(ENDS)]
        posts = () if waits else (_post(job_id, place, called, status, began),)
        ended = JobState.COMPLETED if status is SessionStatus.COMPLETED else JobState.UNREACHED
        yield Job(
            id=job_id,
            queue="default",
            state=JobState.QUEUED if waits else ended,
            due_at=now + timedelta(days=30),
            revision=f"r{place}",
            destination=called,
            unique_key=f"parcel-{place}",
            body=BODY % called,
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


BIG, FEW = 1000, 20
"""The calls of the batch `big` and of the batch `small`, which are the same in both stores."""
SMALL = (200, 2000)
LARGE = (20_000, 1_000_000)
DUE = 400
"""Calls that are due, for the leases."""


def number(place: int) -> str:
    """A number of Singapore."""
    return f"+65{80000000 + place}"


def _in_batch(job: Job, place: int, batches: int, now: datetime) -> Job:
    if place < DUE:
        return replace(job, batch_id="due", state=JobState.QUEUED, due_at=now, posts=(), post_count=0)
    name = "big" if place < DUE + BIG else "small" if place < DUE + BIG + FEW else f"batch-{place % batches}"
    return replace(job, batch_id=name)


async def fill(store: Store, *, batches: int, amount: int) -> None:
    """Fill a store with so many batches, and so many calls and numbers on the suppression list."""
    now = store.clock.now()
    await QueueNames(store).remember("default")
    names = [f"batch-{place}" for place in range(batches)] + ["big", "small", "due"]
    named = [
        Write(puts=batch_puts("default", name, at=now - timedelta(seconds=batches - place), is_campaign=True))
        for place, name in enumerate(names)
    ]
    entries = (
        Write(puts=(entry_put(Suppression(number=number(50_000_000 + place), since=now)),)) for place in range(amount)
    )
    made = (_in_batch(job, place, batches, now) for place, job in enumerate(calls(amount, now=now)))
    writes = chain(named, map(inserted, made), entries)
    while page := tuple(islice(writes, 2000)):
        await store.write(BulkWrite(writes=page, durable=False), now=now)
    while await store.prune("default", now=now, events_before=now - timedelta(days=30), limit=1000) >= 1000:
        pass


class Everyday:
    """The everyday operations on one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.queue = CallQueue(store)
        self.policy = CallPolicy()
        self.sweeper = Sweeper(store, queue="default", policy=self.policy)
        self.list = SuppressionList(store)
        self.turns = count()
        self.leased: list[Job] = []
        self.sending: list[Job] = []

    async def enqueue(self) -> None:
        """One call."""
        not_before = self.store.clock.now() + timedelta(days=9)
        await self.queue.enqueue_many([request(next(self.turns), not_before=not_before)])

    async def lease(self) -> None:
        """A lease of two calls."""
        now = self.store.clock.now()
        until = now + timedelta(hours=1)
        self.leased += await self.store.lease("default", worker_id="w", limit=2, until=until, now=now)

    async def journal(self) -> None:
        """The journal entry of one POST."""
        now = self.store.clock.now()
        until = now + timedelta(hours=1)
        job, write = journal_entry(
            self.leased.pop(), at=now, lease_until=until, policy=self.policy, store_id=self.store.id
        )
        await self._write(write)
        self.sending.append(job)

    async def settle(self) -> None:
        """The summary of one call."""
        job = self.sending.pop()
        outcome = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED")
        post = replace(job.posts[-1], verdict=VerdictKind.CREATED, session_id=f"s{job.id}", outcome=outcome)
        ended = replace(job, posts=(post,), state=JobState.COMPLETED)
        await self._write(settled(job, ended, at=self.store.clock.now(), policy=self.policy, store_id=self.store.id)[1])

    async def _write(self, write: Write) -> None:
        (answer,) = await self.store.write(BulkWrite(writes=(write,)), now=self.store.clock.now())
        if answer.result is not Result.DONE:
            raise SystemExit(f"a bulk write was refused: {answer}")

    async def start_page(self) -> None:
        """Read what the console shows first: its queues, and their newest batches."""
        queues = await read_queues(self.store)
        await read_batches(self.store, [each.queue for each in queues], limit=20)

    def operations(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Each operation, by its name."""
        return {
            "enqueue one": self.enqueue,
            "lease": self.lease,
            "journal": self.journal,
            "settle": self.settle,
            "status": self.queue.status,
            "report of a small batch": partial(self.queue.report, "small"),
            "report of a big batch": partial(self.queue.report, "big"),
            "batch list": partial(read_batches, self.store, ["default"]),
            "start page": self.start_page,
            "calls list": partial(self.queue.find, newest=True, limit=50),
            "opt-outs, a page": partial(self.list.scan, limit=50),
            "is a number suppressed": partial(self.list.find, number(50_000_001)),
            "prune": self.sweeper.prune,
            "sweep": self.sweeper.sweep,
        }


async def measure(small: Everyday, large: Everyday) -> None:
    """Print the medians of each operation in both stores, and their ratio."""
    pairs = [each.operations() for each in (small, large)]
    for name in pairs[0]:
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(1 + LOOKS):
            for each, taken in zip(pairs, times, strict=True):
                began = time.perf_counter()
                await each[name]()
                taken.append(1000 * (time.perf_counter() - began))
        first, last = (statistics.median(taken[1:]) for taken in times)  # the first one loads modules
        told(what=name, small_ms=round(first, 2), large_ms=round(last, 2), ratio=round(last / first, 2))


async def run(kind: str, scale: float) -> None:
    """Fill a small and a large store of a kind, and measure both."""
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            urls = [f"sqlite:///{folder}/{name}.db" for name in ("small", "large")]
        elif kind == "redis":
            urls = list[str]()
            for _ in range(2):
                redis = standalone(
                    Path(stack.enter_context(tempfile.TemporaryDirectory())), binary=system_server()
                ).start()
                stack.callback(redis.kill)
                urls.append(redis.url)
        else:
            postgres = PostgresServer().start()
            stack.callback(postgres.close)
            urls = [postgres.url(schema=name) for name in ("small", "large")]
        async with open_store(urls[0]) as small, open_store(urls[1]) as large:
            for store, (batches, amount) in ((small, SMALL), (large, LARGE)):
                share = scale if store is large else 1.0
                began, size = time.monotonic(), (int(batches * share), int(amount * share))
                await fill(store, batches=size[0], amount=size[1])
                told(filled=size, seconds=round(time.monotonic() - began))
            for store in (small, large):
                if isinstance(store, PostgresStore):
                    await store.database.run("VACUUM ANALYZE", within=300)  # as autovacuum does within minutes
            await measure(Everyday(small), Everyday(large))


def told(**figures: object) -> None:
    """One line of figures."""
    print(json.dumps(figures), flush=True)  # noqa: T201 - this is a command


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", choices=["sqlite", "redis", "postgres"])
    parser.add_argument("--scale", type=float, default=1.0, help="the fraction of the large store that is made")
    given = parser.parse_args()
    asyncio.run(run(given.store, given.scale))
