"""Tombstones: what a store keeps of a deleted job, so that its unique key stays taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voiceflow_worker.backends.record import from_micros, from_micros_or_none, newer, to_micros, to_micros_or_none
from voiceflow_worker.model.jobs.job import Job, JobState

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
