"""Which of the jobs handed in are new, and who owns the keys of the others: one rule for all backends."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from voiceflow_worker.core.ports import Enqueued
from voiceflow_worker.errors import KeyConflict, KeyConflictError, StoreVersionError
from voiceflow_worker.model.jobs.job import Job, JobState

T = TypeVar("T")

_PER_STEP = 64
_STATES = frozenset(JobState)


@dataclass(frozen=True, slots=True)
class Admission:
    """`answers` for all jobs handed in, in their order, and the `fresh` ones among them, by their place."""

    answers: Sequence[Enqueued]
    fresh: Sequence[int]


def admission(
    jobs: Sequence[Job], *, held: Callable[[str], Job | None], owner: Callable[[str, str], Job | None]
) -> Generator[None, None, Admission]:
    """Judge jobs before anything is written; it yields now and then, as a look at thousands takes its time.

    `held` gives the stored job of an id, `owner` the job, living or remembered, that owns a key of a queue. Raises
    `KeyConflictError` naming every job whose key is owned by a job with another body.
    """
    new_by_id: dict[str, Job] = {}
    new_by_key: dict[tuple[str, str], Job] = {}
    answers: list[Enqueued] = []
    fresh: list[int] = []
    conflicts: list[KeyConflict] = []
    for index, job in enumerate(jobs):
        if index % _PER_STEP == _PER_STEP - 1:
            yield
        key = job.unique_key
        same = held(job.id)
        known = same or new_by_id.get(job.id)
        if known is None and key is not None:
            known = new_by_key.get((job.queue, key)) or owner(job.queue, key)
        if known is None:
            new_by_id[job.id] = job
            if key is not None:
                new_by_key[job.queue, key] = job
            fresh.append(index)
            answers.append(Enqueued(job, created=True))
            continue
        if key is not None and known.body_digest != job.body_digest:
            conflicts.append(KeyConflict(index, key, known.id))
        # A job that an earlier call stored, whose answer was lost, is told as new again.
        answers.append(Enqueued(known, created=same is not None))
    if conflicts:
        raise KeyConflictError(conflicts)
    return Admission(answers, fresh)


def result_of(steps: Generator[None, None, T]) -> T:
    """Go through all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def remembered_state(job_id: str, state: str) -> JobState:
    """The state of a job that owns a key. Raises `StoreVersionError` for one that a newer version has."""
    if state not in _STATES:
        raise StoreVersionError(
            f"job {job_id}, which owns a key, is {state[:40]!r}, which this version of voiceflow-worker does not know: "
            "a newer one wrote it. Upgrade this installation; nothing was changed."
        )
    return JobState(state)


def remembered(
    job_id: str,
    *,
    queue: str,
    unique_key: str,
    body_digest: str,
    state: JobState,
    due_at: datetime,
    created_at: datetime,
    not_before: datetime | None,
    valid_until: datetime | None,
) -> Job:
    """What a tombstone gives back of a deleted job: id, state and times, nothing about the person who was called."""
    return Job(
        id=job_id,
        queue=queue,
        state=state,
        due_at=due_at,
        destination="",
        unique_key=unique_key,
        valid_until=valid_until,
        body="",
        body_digest=body_digest,
        source="",
        created_at=created_at,
        not_before=not_before,
    )
