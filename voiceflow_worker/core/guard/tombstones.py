"""Tombstones: records of jobs that the sweep deleted, so that they do not look like lost jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job
from voiceflow_worker.model.jobs.policy import CallPolicy

NAMESPACE = "pruned"


async def remember_pruned(store: Store, jobs: Sequence[Job], *, now: datetime, policy: CallPolicy) -> None:
    """Leave tombstones of jobs that are about to be deleted.

    A job with a unique key leaves one by itself. A job that was never sent does not need one: no journal file names
    it, so it cannot be taken for a lost job.
    """
    tombstones = {job.id: "1" for job in jobs if job.unique_key is None and job.post_count}
    await text_records(store, NAMESPACE).put(tombstones, until=now + max(policy.key_retention, policy.retention))


async def known_as_pruned(store: Store, jobs: Sequence[Job], *, now: datetime) -> set[str]:
    """The ids of those jobs that the store has a tombstone of. It no longer has any of the jobs themselves.

    A store that was set back to a time before it deleted a job has no tombstone of it.
    """
    known = set(await text_records(store, NAMESPACE).get(job.id for job in jobs))
    left = [job for job in jobs if job.id not in known and job.unique_key is not None]
    for queue in {job.queue for job in left}:
        keys = {job.unique_key: job.id for job in left if job.queue == queue and job.unique_key is not None}
        owners = await store.jobs.owners(queue, list(keys), now=now)
        known |= {
            owner.job_id
            for key, owner in owners.items()
            # The key of a job that the server evicted also names that job, but is not a tombstone.
            if owner.job_id == keys[key] and owner.state in FINAL_STATES
        }
    return known
