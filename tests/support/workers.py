"""Queues and workers without webhooks: each call ends as 8x8 answers, and nobody waits for its summary."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import anyio
import msgspec

from tests.support.flows import flow, number
from tests.support.waiting import LIMIT, once_available, until
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, Job, JobState, Worker, WorkerOptions
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.core.base.reading import count_states, find_jobs
from voiceflow_worker.core.base.record_set import Codec
from voiceflow_worker.core.ports import Limits, Store, Voice
from voiceflow_worker.core.ports.controls import limits_put
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Edit, Write, tally_change
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.policy import OutcomeSource

NO_WEBHOOKS = CallPolicy(outcomes=OutcomeSource.NONE)


async def enqueued(store: Store, count: int, *, first: int = 0, **fields: Any) -> CallQueue:
    """A queue with so many calls, each to a number of its own, from the `first` on."""
    queue = CallQueue(store, policy=NO_WEBHOOKS)
    await queue.enqueue_many(CallRequest(flow=flow(number(place)), **fields) for place in range(first, first + count))
    return queue


def worker_for(store: Store, voice: Voice, *, options: dict[str, Any] | None = None, **settings: Any) -> Worker:
    """A worker of this queue, without a rate, a journal and a log of calls unless they are given."""
    made = WorkerOptions(policy=NO_WEBHOOKS, **(options or {}))
    return Worker(store, voice, **{"rate": None, "options": made, "call_log": None, "local_journal": None, **settings})


def worker_with_files(store: Store, voice: Voice, folder: Path) -> Worker:
    """One that keeps journal files in this folder."""
    return worker_for(store, voice, local_journal=JournalFiles(folder))


@asynccontextmanager
async def at_work(*workers: Worker) -> AsyncGenerator[None]:
    """Run workers until the block ends; then stop them in order."""
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            for worker in workers:
                group.start_soon(worker.run)
            yield
            for worker in workers:
                worker.stop()


async def states(queue: CallQueue) -> dict[str, int]:
    """The states that any calls are in."""
    return {state.value: count for state, count in (await queue.status()).states.items() if count}


async def in_state(store: Store, state: JobState, count: int) -> None:
    """Wait until so many calls are in this state, also while the store is away."""

    async def reached() -> bool:
        return (await count_states(store, "default"))[state] == count

    await until(lambda: once_available(reached))


async def set_limits(store: Store, queue: str, limits: Limits) -> None:
    """Set the limits of a queue as they are, whatever they were."""
    write = Write(puts=(limits_put(queue, limits),), wakes=queue)
    await store.write(BulkWrite(writes=(write,)), now=store.clock.now())


async def damaged(store: Store, change: Callable[[Job], Job], *, calls: int = 3) -> Job:
    """The second of so many new calls (the only one), after it was damaged in the store."""
    await enqueued(store, calls)
    job = (await find_jobs(store, Listing(queue="default", limit=None)))[min(1, calls - 1)]
    bad = change(job)
    write = Write(changes=(Edit(job.revision, bad, tally_change(job, bad)),))
    await store_unread(store, write)
    return bad


async def store_unread(store: Store, *writes: Write) -> None:
    """Write records as another version may write them: nobody looks whether this one can read them."""
    with patch.object(Codec, "text", lambda _, value: msgspec.json.encode(value).decode()):
        await store.write(BulkWrite(writes=writes), now=store.clock.now())


def spoilt(job: Job) -> Job:
    """A call whose record no version reads."""
    return replace(job, revision="x", redial=cast("Any", "busy"))
