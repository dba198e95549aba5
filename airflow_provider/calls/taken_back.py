"""Taking back what a task instance handed in and what has not been sent, by its identity."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence

from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, Job, JobState, TooLateError, VoiceflowError

log = logging.getLogger(__name__)

STOPPED_BY_AIRFLOW = "its Airflow task was stopped"
"""The reason of calls that `on_kill` cancelled: the next try calls those that it still asks for."""
CORRECTED = "its Airflow task was corrected: it calls another number"
REPLACED = "its Airflow task replaced it: the call that is asked for now is another one"
REMOVED = "its Airflow task does not ask for it any more"

PAGE = 1000
TOGETHER = 200
"""Cancellations that are asked for at a time: the queue makes one commit of them."""


def was_taken_back(job: Job) -> bool:
    """Whether a task took this call back, and it never rang: asking for it again makes it anew."""
    ours = {STOPPED_BY_AIRFLOW, CORRECTED, REPLACED, REMOVED}
    return job.state is JobState.CANCELLED and job.reason in ours and never_rang(job)


class CallTakenBackError(VoiceflowError):
    """Raised when another try of a task took back the call that this one waits for: the next try calls."""


def require_not_taken_back(job: Job) -> None:
    """Raise CallTakenBackError for a call that a task took back: nobody was called, and its task goes on."""
    if was_taken_back(job):
        raise CallTakenBackError(
            f"call {job.id} to {job.destination} was taken back ({job.reason}) while this task waited for it. Nobody "
            "was called; a retry makes the call anew"
        )


async def cancel_calls(queue: CallQueue, job_ids: Sequence[str], *, reason: str) -> set[str]:
    """Cancel those of these calls that have not been sent; gives their ids."""

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


async def unsent_calls(queue: CallQueue, batch_ids: Collection[str], identity: TaskIdentity | None) -> list[str]:
    """The ids of the calls in these batches that have not been sent: those of one task instance, or all for None.

    The batch that a task instance names after itself holds no calls of others, whichever release made them.
    """
    return [
        job.id
        for batch_id in batch_ids
        async for job in _pages(queue, batch_id, {JobState.QUEUED, JobState.LEASED})
        if identity is None or batch_id == identity.batch_id() or identity.owns(job.data)
    ]


async def take_back_calls(
    queue: CallQueue,
    batch_ids: Collection[str],
    identity: TaskIdentity | None,
    *,
    reason: str = STOPPED_BY_AIRFLOW,
) -> int:
    """Cancel what a task instance (None: anybody) has in these batches and has not been sent.

    Says how many. The batches stay open: the next try goes on with them.
    """
    return len(await cancel_calls(queue, await unsent_calls(queue, batch_ids, identity), reason=reason))


async def count_taken_back(queue: CallQueue, batch_id: str) -> int:
    """How many calls of a batch tasks have taken back, and nobody has asked for again."""
    return sum([was_taken_back(job) async for job in _pages(queue, batch_id, {JobState.CANCELLED})])


async def _pages(queue: CallQueue, batch_id: str, states: Collection[JobState]) -> AsyncIterator[Job]:
    after: str | None = None
    while True:
        found = await queue.find(states=states, batch_id=batch_id, after=after, limit=PAGE)
        for job in found:
            yield job
        if len(found) < PAGE:
            return
        after = found[-1].id
