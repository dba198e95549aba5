"""One open call per phone number, across queues: locks on numbers, kept as records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from voiceflow_worker.core.ports import Records
from voiceflow_worker.model.job import Job
from voiceflow_worker.model.policy import CallPolicy

NAMESPACE = "number"


class NumberLocks:
    """Locks a number for one job from before its POST is journalled until that POST is settled.

    The owner is the job, so the same job may lock again. A lock ends by itself once the POST can no longer ring: submit
    window plus ringing. Two campaigns do not ring one person at once, and a row of the log export has one owner.
    """

    def __init__(self, records: Records, policy: CallPolicy) -> None:
        self._records = records
        self._policy = policy

    async def lock(self, jobs: Sequence[Job], *, now: datetime) -> set[str]:
        """Lock the numbers of these jobs; gives the ids of the jobs that have theirs."""
        if not jobs:
            return set()
        wanted: dict[str, str] = {}
        for job in jobs:
            wanted.setdefault(job.destination, job.id)
        ends = now + self._policy.submit_window + self._policy.ringing
        standing = await self._records.put_if_absent(NAMESPACE, wanted, expires_at=ends, now=now)
        owned = {number: owner for number, owner in wanted.items() if standing[number] == owner}
        return set(owned.values())

    async def release(self, jobs: Iterable[Job]) -> None:
        """Give the numbers of these jobs back; a number that another job has locked stays locked."""
        owners: dict[str, str | None] = {job.destination: job.id for job in jobs}
        if owners:
            await self._records.delete(NAMESPACE, owners)
