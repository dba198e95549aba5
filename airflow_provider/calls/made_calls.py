"""The cancellation of a task's calls when it is stopped, and what a later try does with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence

from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, Job, JobState, VoiceflowError
from voiceflow_worker.errors import IllegalMoveError
from voiceflow_worker.types import Actor

# Stored with cancelled calls, and compared by later tries.
STOPPED_BY_AIRFLOW = "Airflow stopped its task"
MOVED = "its Airflow task makes it again in another batch"
_OURS = frozenset({STOPPED_BY_AIRFLOW, MOVED})
RESUMED = "its Airflow task goes on with the redial that it had cancelled"

log = logging.getLogger(__name__)

PAGE = 1000
TOGETHER = 200
"""The largest number of redials that are requested at the same time."""


class CancelledByTaskError(VoiceflowError):
    """Raised when another try of the task cancelled the call that this try waits for."""


def was_cancelled_by_task(job: Job) -> bool:
    """Return whether a task cancelled this call before it rang."""
    return job.state is JobState.CANCELLED and job.reason in _OURS and never_rang(job)


def lost_redial(job: Job) -> bool:
    """Return whether a task cancelled the redial that this call waited for. An earlier POST may have rung."""
    is_ended = job.state in {JobState.CANCELLED, JobState.UNREACHED}
    return is_ended and job.reason in _OURS and not never_rang(job) and bool(job.posts)


async def resume_redials(queue: CallQueue, calls: Collection[Job]) -> list[Job]:
    """Go on with redials that a task cancelled, when they would have been due. Returns the calls that go on.

    The person's next number is due at once.
    """

    async def resumed(job: Job) -> Job | None:
        last = job.last_post
        outcome = None if last is None else last.outcome
        ended = None if last is None else (outcome.ended_at if outcome is not None else None) or last.answered_at
        due = None if ended is None or job.redial is None or job.place else ended + job.redial.wait(job.outcome_status)
        try:
            return await acting_on(queue, job).redial(
                job.id, note=RESUMED, post=job.post_count, not_before=due, goes_on=True
            )
        except IllegalMoveError:
            return None

    going, jobs = list[Job](), list(calls)
    for start in range(0, len(jobs), TOGETHER):
        found = await asyncio.gather(*map(resumed, jobs[start : start + TOGETHER]))
        going += [job for job in found if job is not None]
    if jobs:
        log.info("redials that were cancelled when the task was stopped: %s go on", len(going))
    if late := len(jobs) - len(going):
        log.warning("%s redials are not made any more, because their validity or calling window has passed", late)
    return going


def refuse_cancelled(job: Job) -> None:
    """Raise CancelledByTaskError if a task cancelled this call."""
    if was_cancelled_by_task(job):
        raise CancelledByTaskError(
            f"call {job.id} to {job.number} was cancelled ({job.reason}) while this task waited for it. Nobody "
            "was called. A retry makes a new call"
        )


async def cancel_calls(queue: CallQueue, job_ids: Sequence[str], *, reason: str) -> list[str]:
    """Cancel those of the calls that have not been sent, and return the ids of the cancelled calls."""
    if not job_ids:
        return []
    return await acting_on(queue, await queue.get(job_ids[0])).cancel_many(job_ids, reason=reason)


def acting_on(queue: CallQueue, job: Job) -> CallQueue:
    """Return the queue for an action of the task instance that made this call: the audit log has its DAG and run."""
    data = job.data or {}
    named = [f"{word} {data[name]}" for name, word in _ACTOR.items() if data.get(name) is not None]
    by = Actor(on="Airflow", login=", ".join(named) or None)
    return CallQueue(queue.store, queue.name, policy=queue.policy, by=by)


_ACTOR = {"airflow_dag_id": "DAG", "airflow_run_id": "run", "airflow_task_id": "task"}


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


class CallsChangedError(VoiceflowError):
    """Raised when the task's calls were changed by another try or instance at the same time. A retry can succeed."""
