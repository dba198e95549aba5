"""Sample jobs and moves for tests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count as counter
from typing import Any

import anyio

from voiceflow_worker.core.ports import Event, Move, Store
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
QUEUE = "default"
BODY = (
    '{"callflow":[{"action":"makeCall","params":{"source":"+6531234567","destination":"+6587654321"}},'
    '{"action":"say","params":{"text":"Your order is ready.","voiceProfile":"en-IE-EmilyNeural"}},'
    '{"action":"hangup"}]}'
)

_tokens = counter(1)


def sample_job(number: int = 1, **fields: Any) -> Job:
    """A queued job, due at `NOW`. Ids are in the order of the numbers. `fields` replace the defaults."""
    queue = fields.get("queue", QUEUE)
    sample = Job(
        id=f"{queue}.{number:026d}",
        queue=queue,
        state=JobState.QUEUED,
        due_at=NOW,
        revision=f"made-{number}",
        destination=f"+65{80000000 + number}",
        body=BODY,
        body_digest="digest-of-the-body",
        source="+6531234567",
        created_at=NOW,
    )
    return replace(sample, **fields)


def sample_jobs(amount: int, **fields: Any) -> Sequence[Job]:
    """Sample jobs with the numbers 1 to `amount`."""
    return [sample_job(number, **fields) for number in range(1, amount + 1)]


async def enqueued(store: Store, number: int = 1, **fields: Any) -> Job:
    """Store a sample job, and return it."""
    job = sample_job(number, **fields)
    await store.jobs.enqueue([job], now=NOW)
    return job


async def enqueued_jobs(store: Store, amount: int, **fields: Any) -> Sequence[Job]:
    """Store sample jobs with the numbers 1 to `amount`, and return them."""
    jobs = sample_jobs(amount, **fields)
    await store.jobs.enqueue(jobs, now=NOW)
    return jobs


def gate(
    state: GateState,
    *,
    batch: str | None = None,
    until: datetime | None = None,
    reason: str = "",
    since: datetime = NOW,
    queue: str = QUEUE,
) -> Gate:
    """A gate of the queue, or of one of its batches."""
    return Gate.of(queue, batch, state, since=since, until=until, reason=reason)


def numbers(jobs: Sequence[Job]) -> list[int]:
    """The numbers of sample jobs."""
    return [int(job.id.rpartition(".")[2]) for job in jobs]


def moved(job: Job, *events: Event, **fields: Any) -> Move:
    """A move that gives a job these fields and a new revision, with these events."""
    return Move(job, replace(job, **{"revision": f"moved-{next(_tokens)}", **fields}), events)


async def at_once(count: int, work: Callable[[Store, int], Coroutine[Any, Any, None]], *stores: Store) -> None:
    """Run `work` for each number from 0 to `count` - 1, all at the same time. The runs get the stores in turn."""
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(work, stores[number % len(stores)], number)
