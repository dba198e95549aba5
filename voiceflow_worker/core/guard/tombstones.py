"""Jobs that a store deleted in good order: what tells them from those that it has forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job
from voiceflow_worker.model.jobs.policy import CallPolicy

NAMESPACE = "pruned"


async def remember_pruned(store: Store, jobs: Sequence[Job], *, now: datetime, policy: CallPolicy) -> None:
    """Leave a trace of jobs that are about to be deleted.

    A job with a unique key leaves one by itself, its tombstone. A job of which nothing was sent needs none: no journal
    file tells of it.
    """
    values = {job.id: "1" for job in jobs if job.unique_key is None and job.post_count}
    if values:
        ends = now + max(policy.key_retention, policy.retention)
        await store.records.put(NAMESPACE, values, expires_at=ends, now=now)


async def known_as_pruned(store: Store, jobs: Sequence[Job], *, now: datetime) -> set[str]:
    """The ids of those jobs that the store remembers to have deleted. It no longer has any of them.

    A store that was set back to a time before it deleted a job remembers nothing of the kind.
    """
    if not jobs:
        return set()
    known = set(await store.records.get(NAMESPACE, [job.id for job in jobs], now=now))
    left = [job for job in jobs if job.id not in known and job.unique_key is not None]
    for queue in {job.queue for job in left}:
        keys = {job.unique_key: job.id for job in left if job.queue == queue and job.unique_key is not None}
        owners = await store.jobs.owners(queue, list(keys), now=now)
        known |= {
            owner.job_id
            for key, owner in owners.items()
            # A key whose job was lost to eviction names that job too, and is no tombstone.
            if owner.job_id == keys[key] and owner.state in FINAL_STATES
        }
    return known
