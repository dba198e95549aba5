"""One open call per phone number, across queues: locks on numbers, kept as records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from voiceflow_worker.core.identity import job_of
from voiceflow_worker.core.ports import Records
from voiceflow_worker.model.job import Job
from voiceflow_worker.model.policy import CallPolicy

NAMESPACE = "number"


class NumberLocks:
    """Locks a number for one POST of one job, from before its journal entry until that POST is settled.

    A later POST of the same job takes the lock over; only the POST that holds it can give it back, so a release that
    comes late hurts nobody. A lock ends by itself once its POST can no longer ring: submit window plus ringing. Two
    campaigns do not ring one person at once, and a row of the log export has one owner.
    """

    def __init__(self, records: Records, policy: CallPolicy) -> None:
        self._records = records
        self._policy = policy

    async def lock(self, jobs: Sequence[Job], *, now: datetime) -> set[str]:
        """Lock the numbers of these jobs for their next POSTs; gives the ids of the jobs that have theirs."""
        if not jobs:
            return set()
        wanted: dict[str, str] = {}
        for job in jobs:
            wanted.setdefault(job.destination, _next(job))
        standing = await self._put(wanted, now=now)
        outlived = {number: owner for number, owner in standing.items() if _same_job(owner, wanted[number])}
        if outlived:
            await self._records.delete(NAMESPACE, outlived)
            standing = {**standing, **await self._put({number: wanted[number] for number in outlived}, now=now)}
        return {job.id for job in jobs if standing[job.destination] == _next(job)}

    async def release_unsent(self, jobs: Iterable[Job]) -> None:
        """Give back the numbers of leased jobs whose next POST was not begun."""
        await self._release([(job.destination, _next(job)) for job in jobs])

    async def release_settled(self, jobs: Iterable[Job]) -> None:
        """Give back the numbers of jobs whose newest POST is settled."""
        await self._release([(job.destination, f"{job.id}.{job.post_count}") for job in jobs])

    async def _put(self, wanted: dict[str, str], *, now: datetime) -> dict[str, str]:
        ends = now + self._policy.submit_window + self._policy.ringing
        return dict(await self._records.put_if_absent(NAMESPACE, wanted, expires_at=ends, now=now))

    async def _release(self, held: Sequence[tuple[str, str]]) -> None:
        """Delete each lock that still has this very owner; several owners of one number take several trips."""
        while held:
            trip: dict[str, str | None] = {}
            left: list[tuple[str, str]] = []
            for number, owner in held:
                if number in trip:
                    left.append((number, owner))
                else:
                    trip[number] = owner
            await self._records.delete(NAMESPACE, trip)
            held = left


def _next(job: Job) -> str:
    return f"{job.id}.{job.post_count + 1}"


def _same_job(owner: str, wanted: str) -> bool:
    """Whether the owner is an older POST of the job that wants the lock."""
    one, other = job_of(owner), job_of(wanted)
    return one is not None and other is not None and one[0] == other[0] and one[1] < other[1]
