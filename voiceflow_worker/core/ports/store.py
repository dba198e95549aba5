"""What the queue tells of a call that was enqueued."""

from __future__ import annotations

from dataclasses import dataclass

from voiceflow_worker.model.jobs.job import Job


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The result for one enqueued job. `job` is the job in the store, and `created` says whether it is new.

    If the job that owns the unique key was deleted, `job` is a tombstone, with only the id, state and times.
    """

    job: Job
    created: bool
