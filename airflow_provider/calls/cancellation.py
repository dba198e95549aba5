"""Cancellation of a task instance's unsent calls. A later try that requests a cancelled call makes a new one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, Job, JobState, VoiceflowError
from voiceflow_worker.errors import TooLateError

# Stored with cancelled calls, and compared by later tries.
STOPPED_BY_AIRFLOW = "its Airflow task was stopped"
CORRECTED = "its Airflow task was corrected: it calls another number"
REPLACED = "its Airflow task replaced it: the task asks for a different call now"
REMOVED = "its Airflow task does not ask for it any more"

PAGE = 1000
TOGETHER = 200
"""The largest number of cancellations that are requested at the same time. The queue commits them together."""


class CancelledByTaskError(VoiceflowError):
    """Raised when another try of the task cancelled the call that this try waits for."""


def was_cancelled_by_task(job: Job) -> bool:
    """Return whether a task cancelled this call before it rang."""
    ours = {STOPPED_BY_AIRFLOW, CORRECTED, REPLACED, REMOVED}
    return job.state is JobState.CANCELLED and job.reason in ours and never_rang(job)


def refuse_cancelled(job: Job) -> None:
    """Raise CancelledByTaskError if a task cancelled this call."""
    if was_cancelled_by_task(job):
        raise CancelledByTaskError(
            f"call {job.id} to {job.destination} was cancelled ({job.reason}) while this task waited for it. Nobody "
            "was called. A retry makes a new call"
        )


async def cancel_calls(queue: CallQueue, job_ids: Sequence[str], *, reason: str) -> set[str]:
    """Cancel those of the calls that have not been sent, and return the ids of the cancelled calls."""

    async def cancel(job_id: str) -> str | None:
        try:
            await queue.cancel(job_id, reason=reason)
        except TooLateError:
            return None
        return job_id

    cancelled: set[str] = set()
    for start in range(0, len(job_ids), TOGETHER):
        done = await asyncio.gather(*(cancel(job_id) for job_id in job_ids[start : start + TOGETHER]))
        cancelled |= {job_id for job_id in done if job_id is not None}
    return cancelled


async def unsent_ids(queue: CallQueue, batch_ids: Collection[str], identity: TaskIdentity | None) -> list[str]:
    """Return the ids of a task instance's unsent calls in these batches; of all unsent calls if `identity` is None.

    All calls in the batch that is named after the task instance belong to this instance.
    """
    return [
        job.id
        for batch_id in batch_ids
        async for job in calls_of_batch(queue, batch_id, {JobState.QUEUED, JobState.LEASED})
        if identity is None or batch_id == identity.batch_id() or identity.owns(job.data)
    ]


async def cancel_unsent(queue: CallQueue, batch_ids: Collection[str], identity: TaskIdentity | None) -> int:
    """Cancel the unsent calls of a stopped task instance in these batches, and return their number.

    Without an `identity`, all unsent calls in the batches are cancelled. The batches stay open for the next try.
    """
    return len(await cancel_calls(queue, await unsent_ids(queue, batch_ids, identity), reason=STOPPED_BY_AIRFLOW))


async def count_cancelled(queue: CallQueue, batch_id: str) -> int:
    """Return the number of calls in a batch that were cancelled by tasks."""
    return sum([was_cancelled_by_task(job) async for job in calls_of_batch(queue, batch_id, {JobState.CANCELLED})])


async def calls_of_batch(
    queue: CallQueue, batch_id: str, states: Collection[JobState] | None = None
) -> AsyncIterator[Job]:
    """Yield the calls of a batch, or only those in `states`. The store is read in pages."""
    after: str | None = None
    while True:
        found = await queue.find(states=states, batch_id=batch_id, after=after, limit=PAGE)
        for job in found:
            yield job
        if len(found) < PAGE:
            return
        after = found[-1].id
