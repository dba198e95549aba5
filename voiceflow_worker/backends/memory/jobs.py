"""The port `Jobs` over the reference of the memory store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.matching import matches
from voiceflow_worker.backends.memory.reference import Memory, MemoryDomain
from voiceflow_worker.core.ports import Event, Jobs, KeyOwner, Query
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import Totals


class MemoryJobs(Jobs):
    """The port `Jobs` in memory."""

    def __init__(self, domain: MemoryDomain) -> None:
        self._domain = domain

    @property
    def _memory(self) -> Memory:
        return self._domain.memory

    async def lease(
        self,
        queue: str,
        *,
        worker_id: str,
        limit: int,
        lease_for: timedelta,
        now: datetime,
        batch_id: str | None = None,
    ) -> Sequence[Job]:
        return await self._domain.lease(
            queue, worker_id=worker_id, limit=limit, until=now + lease_for, now=now, batch=batch_id
        )

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        await checkpoint()
        jobs = self._memory.jobs
        return {job_id: jobs[job_id] for job_id in job_ids if job_id in jobs}

    async def find(self, query: Query) -> Sequence[Job]:
        return await self._domain.jobs(query, now=self._domain.clock.now())

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        await checkpoint()
        if due_before is None:
            return self._memory.totals(queue, batch_id).states
        query = Query(queue=queue, batch_id=batch_id, due_before=due_before)
        counted = Counter(job.state for job in self._memory.jobs.values() if matches(query, job))
        return {state: counted[state] for state in JobState}

    async def totals(self, queue: str, *, batch_id: str | None = None) -> Totals:
        return await self._domain.totals(queue, batch=batch_id)

    async def owners(self, queue: str, unique_keys: Sequence[str], *, now: datetime) -> Mapping[str, KeyOwner]:
        await checkpoint()
        found = {key: self._memory.job_of_key(queue, key, now) for key in unique_keys}
        return {key: KeyOwner(job.id, job.body_digest, job.state) for key, job in found.items() if job is not None}

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        return await self._domain.events(queue, after=after, limit=limit)

    async def forget_events(self, queue: str, *, before: datetime) -> int:
        await checkpoint()
        events = self._memory.events
        old = [number for number, each in events.items() if each.job_id.startswith(f"{queue}.") and each.at < before]
        for number in old:
            del events[number]
        return len(old)

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        return await self._domain.wait(queue, seen=seen, until=until)
