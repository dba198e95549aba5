"""Reading of many jobs: in pages, and with an error for each job that a newer version wrote."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from voiceflow_worker.core.ports import Jobs, Query
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.jobs.job import Job


@dataclass(frozen=True, slots=True)
class ReadJobs:
    """Jobs by their ids, and the errors of jobs that could not be read. Unknown ids are left out."""

    jobs: Mapping[str, Job]
    unreadable: Mapping[str, StoreVersionError]


async def read_each(jobs: Jobs, job_ids: Sequence[str]) -> ReadJobs:
    """Read the jobs with these ids in one trip. If a newer version wrote some, each job is read in its own trip."""
    if not job_ids:
        return ReadJobs({}, {})
    try:
        return ReadJobs(await jobs.get(job_ids), {})
    except StoreVersionError as error:
        if len(job_ids) == 1:
            return ReadJobs({}, {job_ids[0]: error})
    found: dict[str, Job] = {}
    unreadable: dict[str, StoreVersionError] = {}
    for job_id in job_ids:
        try:
            found.update(await jobs.get([job_id]))
        except StoreVersionError as error:
            unreadable[job_id] = error
    return ReadJobs(found, unreadable)


async def find_pages(jobs: Jobs, query: Query, *, since: datetime | None = None) -> AsyncGenerator[Sequence[Job]]:
    """All jobs that match a query, page by page. The order of the query must be `CREATED` or `NEWEST`.

    The `limit` of the query is the size of a page. With `since`, jobs that have not changed since then are left out.
    """
    while page := await jobs.find(query):
        if wanted := [job for job in page if since is None or job.touched_at >= since]:
            yield wanted
        query = replace(query, after=page[-1].id)
