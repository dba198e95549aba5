"""The calls that a task instance made before, and their cancellation when the task is stopped or cleared.

This count is the only identity of calls. A call that replaces another, or that is made again, is the next in the count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, Job, JobState, VoiceflowError, telephone_of
from voiceflow_worker.core.ports.reading import owners_of
from voiceflow_worker.errors import IllegalMoveError
from voiceflow_worker.types import Actor

# Stored with cancelled calls, and compared by later tries.
STOPPED_BY_AIRFLOW = "its Airflow task was stopped"
CORRECTED = "its Airflow task was corrected: it calls another number"
REPLACED = "its Airflow task replaced it: the task asks for a different call now"
REMOVED = "its Airflow task does not ask for it any more"
_OURS = frozenset({STOPPED_BY_AIRFLOW, CORRECTED, REPLACED, REMOVED})
RESUMED = "its Airflow task goes on with the redial that it had cancelled"

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


async def resume_redial(queue: CallQueue, job: Job) -> Job | None:
    """Go on with a redial that a task cancelled, when it would have been due. None if it cannot be made any more.

    The person's next number is due at once.
    """
    last = job.last_post
    ended = None if last is None else (last.outcome.ended_at if last.outcome is not None else None) or last.answered_at
    due = None if ended is None or job.redial is None or job.place else ended + job.redial.wait(job.outcome_status)
    try:
        return await acting_on(queue, job).redial(
            job.id, note=RESUMED, post=job.post_count, not_before=due, goes_on=True
        )
    except IllegalMoveError:
        return None


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


T = TypeVar("T")

AT_ONCE = 500
STRIDE = 4
"""The number of further keys that are asked for together, if the last one was taken."""


class CallsChangedError(VoiceflowError):
    """Raised when the task's calls were changed by another try or instance at the same time. A retry can succeed."""


class Condition(Enum):
    """The progress of a call that was made. Rows with another text than any call get the calls in this order."""

    RANG = auto()
    """The call rang, may have rung, is being sent, or was pruned."""
    WAITING = auto()
    """The call is in the queue and was never sent."""
    ENDED = auto()
    """The call was refused or expired before it rang."""
    CANCELLED = auto()
    """A person cancelled the call before it rang."""
    CANCELLED_BY_TASK = auto()
    """A task cancelled the call before it rang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeCall:
    """A call that the task has made to a number, or for a row's own key, as far as campaigns need it.

    `place` is its place in the count, from 0. `is_own` is True if this task instance enqueued it in its current batch,
    and `is_siblings` if another instance of the same expansion enqueued it. `is_again` says that it ended in a state
    whose calls the task is to make again.
    """

    place: int
    job_id: str
    digest: str
    condition: Condition
    is_own: bool
    is_siblings: bool
    is_again: bool = False
    resumes: Job | None = None
    """The call itself, if a task cancelled the redial that it waited for."""


def called_number(number: str) -> str:
    """Return the name of what is called, if it is identified by its phone number, in any spelling."""
    return f"number {telephone_of(number)}"


def called_key(key: str) -> str:
    """Return the name of what is called, if it is identified by a key of its own."""
    return f"key {key}"


async def calls_made(
    queue: CallQueue, identity: TaskIdentity, wanted: Mapping[str, int], *, note: Callable[[int, Job], T]
) -> dict[str, list[T]]:
    """Return what `note` makes of each call of the task to each number or key, in the order of their count.

    `wanted` has the number of calls to expect for each. A pruned call is a job with only the fields that are stored
    with its key.
    """
    found: dict[str, list[T]] = {called: [] for called in wanted}
    asked = {called: range(count + 1) for called, count in wanted.items()}
    while asked:
        places = [(called, place) for called, some in asked.items() for place in some]
        taken = set[tuple[str, int]]()
        for start in range(0, len(places), AT_ONCE):
            keys = {identity.call_key(*each): each for each in places[start : start + AT_ONCE]}
            owners = await owners_of(queue.store, queue.name, keys)
            for key, (called, place) in keys.items():
                if key in owners:
                    found[called].append(note(place, owners[key]))
                    taken.add((called, place))
        asked = {
            called: range(some.stop, some.stop + STRIDE)
            for called, some in asked.items()
            if (called, some.stop - 1) in taken
        }
    return found


def condition_of(job: Job) -> Condition:
    """Return the condition of a job."""
    if job.state in {JobState.QUEUED, JobState.LEASED}:
        return Condition.WAITING if job.attempt == 0 else Condition.RANG
    if was_cancelled_by_task(job):
        return Condition.CANCELLED_BY_TASK
    if not never_rang(job):
        return Condition.RANG
    return Condition.CANCELLED if job.state is JobState.CANCELLED else Condition.ENDED
