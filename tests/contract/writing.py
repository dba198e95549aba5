"""What the tests of the contract write and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.ports.controls import gate_put
from voiceflow_worker.core.ports.reads import ById
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Edit,
    Event,
    EventKind,
    Insert,
    Mode,
    Page,
    Put,
    Replace,
    Result,
    Store,
    Write,
    WriteResult,
    tally_change,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState

from .samples import NOW, QUEUE

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
DONE, STALE, EXISTS, NOT_FREE = Result.DONE, Result.STALE, Result.EXISTS, Result.NOT_FREE


_tokens = count(1)


def new(job: Job, **parts: Any) -> Write:
    """A write that stores a new job."""
    return replace(Write(changes=(Insert(job, tally_change(None, job)),), wakes=job.queue), **parts)


def next_of(job: Job, **fields: Any) -> Job:
    """The next version of a job."""
    return replace(job, **{"revision": f"next-{next(_tokens)}", **fields})


def to(old: Job, job: Job, *, tally: Mapping[str, int] | None = None, **parts: Any) -> Write:
    """A write that replaces a job by its next version."""
    wakes = job.queue if job.state is JobState.QUEUED else None
    return replace(
        Write(changes=(Replace(old.revision, job, tally_change(old, job) if tally is None else tally),), wakes=wakes),
        **parts,
    )


def over(owner: Job, job: Job) -> Write:
    """A write that stores a new job, to which the owner of its key gives the key up."""
    released = next_of(owner, unique_key=None, reason="given up")
    return Write(changes=(Edit(owner.revision, released), Insert(job, tally_change(None, job))))


def told(job: Job, kind: EventKind = EventKind.ENDED) -> Event:
    """An event of a job."""
    return Event(job_id=job.id, kind=kind, at=NOW, state=job.state, revision=job.revision)


def put(
    group: str, value: str = "v", ends_at: datetime | None = None, mode: Mode = Mode.ALWAYS, member: str = ""
) -> Put:
    return Put("n", group, value, ends_at, mode, member)


def gated(state: GateState, *, batch: str | None = None, until: datetime | None = None, queue: str = QUEUE) -> Write:
    """A write that sets a gate."""
    gate = Gate.of(queue, batch, state, since=NOW, until=until, reason="a reason")
    return Write(puts=(gate_put(gate, token=f"t{next(_tokens)}"),), wakes=queue)


async def results_of(store: Store, *writes: Write, now: datetime = NOW, **fields: Any) -> list[Result]:
    """Write; returns the results of its writes."""
    return [each.result for each in await answers(store, *writes, now=now, **fields)]


async def answers(store: Store, *writes: Write, now: datetime = NOW, **fields: Any) -> Sequence[WriteResult]:
    bulk = BulkWrite(writes=writes, **fields)
    return await store.write(bulk, now=now)


async def stored(store: Store, *jobs: Job) -> list[Job]:
    """Store new jobs, and return them."""
    assert await results_of(store, *map(new, jobs)) == [DONE] * len(jobs)
    return list(jobs)


async def held(store: Store, *, now: datetime = NOW, namespace: str = "n") -> dict[str, str]:
    """The records of a namespace that stand, by their group and, if they have one, their member."""
    found = await store.records({namespace: Page()}, now=now)
    return {f"{each.group} {each.member}".rstrip(): each.value for each in found[namespace]}


async def job_of(store: Store, job: Job) -> Job | None:
    found = await store.jobs(ById((job.id,)), now=NOW)
    return found[0] if found else None


async def leased(store: Store, limit: int = 10, *, now: datetime = NOW, batch: str | None = None) -> list[int]:
    """Lease jobs; returns the numbers of the sample jobs."""
    jobs = await store.lease(QUEUE, worker_id="w", limit=limit, until=now + MINUTE, now=now, batch=batch)
    return [int(job.id.rpartition(".")[2]) for job in jobs]


async def states(store: Store, batch: str | None = None) -> dict[str, int]:
    totals = await totals_of(store, QUEUE, batch)
    return {state.value: amount for state, amount in totals.states.items() if amount}
