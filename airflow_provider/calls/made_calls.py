"""The calls that a task has made so far, counted for each number or key: the first call to it, the second, and so on.

This count is the only identity of calls. A call that replaces another, or that is made again, is the next in the count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from airflow_provider.calls.cancellation import was_cancelled_by_task
from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, Job, JobState, VoiceflowError, telephone_of
from voiceflow_worker.core.ports.reading import owners_of

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
    and `is_siblings` if another instance of the same expansion enqueued it.
    """

    place: int
    job_id: str
    digest: str
    condition: Condition
    is_own: bool
    is_siblings: bool


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
