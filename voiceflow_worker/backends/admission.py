"""Admission of jobs to a store, for all backends: which jobs are new, and which are stored already."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from voiceflow_worker.backends.record import from_micros, from_micros_or_none, newer, to_micros, to_micros_or_none
from voiceflow_worker.core.ports import Enqueued
from voiceflow_worker.errors import KeyConflict, KeyConflictError
from voiceflow_worker.model.jobs.job import Job, JobState

T = TypeVar("T")

_PER_STEP = 64


AdmittedJobs = tuple[Sequence[Enqueued], Sequence[int]]
"""The result of an admission: the answers for all jobs, in their order, and the indexes of the new jobs."""


def admission(
    jobs: Sequence[Job], *, held: Callable[[str], Job | None], owner: Callable[[str, str], Job | None]
) -> Generator[None, None, AdmittedJobs]:
    """Find which jobs are new, and the answer for each. Yields after every 64 jobs, so that other work can run.

    `held` returns the stored job with an id. `owner` returns the job that owns a unique key of a queue, even if that
    job was deleted. Raises KeyConflictError if a key belongs to a job with another body; the error lists all conflicts.
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
        # A job that is stored under the same id was new in an earlier call, whose answer was lost: it is new again.
        answers.append(Enqueued(known, created=same is not None))
    if conflicts:
        raise KeyConflictError(conflicts)
    return answers, fresh


def result_of(steps: Generator[None, None, T]) -> T:
    """Run a generator to its end, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


Tombstone = tuple[str, str | None, str, str, str, int, int, int | None, int | None]
"""The record of a deleted job that had a unique key: queue, key, id, body digest, state, and the times due_at,
created_at, not_before and valid_until in microseconds. It has nothing about the person who was called."""


def tombstone_of(job: Job) -> Tombstone:
    """The tombstone of a job that is being deleted."""
    return (
        job.queue,
        job.unique_key,
        job.id,
        job.body_digest,
        job.state.value,
        to_micros(job.due_at),
        to_micros(job.created_at),
        to_micros_or_none(job.not_before),
        to_micros_or_none(job.valid_until),
    )


def remembered(tombstone: Sequence[Any]) -> Job:
    """The deleted job, from its tombstone. Raises StoreVersionError if only a newer version knows its state."""
    queue, unique_key, job_id, body_digest, state, due_at, created_at, not_before, valid_until = tombstone
    return Job(
        id=job_id,
        queue=queue,
        state=known_state(state, owner=job_id),
        due_at=from_micros(due_at),
        destination="",
        unique_key=unique_key,
        valid_until=from_micros_or_none(valid_until),
        body="",
        body_digest=body_digest,
        source="",
        created_at=from_micros(created_at),
        not_before=from_micros_or_none(not_before),
    )


def known_state(state: str, *, owner: str) -> JobState:
    """The state with this name. Raises StoreVersionError if only a newer version knows it.

    `owner` is the id of the job that has this state and owns a key, for the message.
    """
    try:
        return JobState(state)
    except ValueError as error:
        raise newer(f"the state of call {owner}, which owns a key,", error) from error
