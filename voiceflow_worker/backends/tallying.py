"""The first count of a queue whose jobs were written without tallies."""

from __future__ import annotations

from voiceflow_worker.core.ports import Jobs, Query
from voiceflow_worker.core.ports.reading import find_pages

_AT_ONCE = 500


async def tally_all(jobs: Jobs, queue: str) -> None:
    """Add the tallies of all jobs of a queue to its totals, in slices; jobs that move meanwhile are counted once."""
    async for page in find_pages(jobs, Query(queue=queue, limit=_AT_ONCE)):
        await jobs.recount([job for job in page if job.posts])
