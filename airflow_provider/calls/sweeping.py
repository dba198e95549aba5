"""Moving on what is overdue, where no worker sweeps the queue: nothing is sent by it."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider.calls.standing import Standing, Terms, standing_of
from airflow_provider.calls.waiting import jobs_of
from voiceflow_worker import CallPolicy, CallQueue, Job


async def swept(queue: CallQueue, jobs: Sequence[Job], terms: Terms, *, policy: CallPolicy) -> list[Job]:
    """These jobs, after a sweep if one of them is overdue: its worker died, or its summary never came."""
    now = queue.store.clock.now()
    if not any(standing_of(job, terms, now=now) is Standing.OVERDUE for job in jobs):
        return list(jobs)
    await sweep(queue, policy=policy)
    return await jobs_of(queue, [job.id for job in jobs])


async def sweep(queue: CallQueue, *, policy: CallPolicy) -> None:
    """Move on everything that is overdue in this queue, as every worker does each second."""
    from voiceflow_worker import Sweeper

    await Sweeper(queue.store, queue=queue.name, policy=policy).sweep()
