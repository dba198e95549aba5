"""Two records of one job, from two copies of a store: which one says more of what has happened to it."""

from __future__ import annotations

from datetime import datetime

from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.jobs.setback import remembered

_WAITS = frozenset({JobState.QUEUED, JobState.LEASED})


def was_ever_moved_on(job: Job) -> bool:
    """Whether the job is more than enqueued: a POST was begun for it, or it has ended."""
    return job.post_count > 0 or job.state not in _WAITS


def further(kept: Job, other: Job, *, at: datetime, policy: CallPolicy) -> Job:
    """The record that is further on its way; `kept` itself where the other one tells nothing new.

    More POSTs are further; with equally many, what has ended before what is under way, and that before what waits to
    be sent: a record that could be sent again never replaces one that could not. Where the two copies went separate
    ways, and each began another POST of the same number, the person may have been called twice, and it says so.
    """
    if _went_separate_ways(kept, other):
        return remembered(kept, other, at=at, policy=policy)
    if _distance(other) > _distance(kept):
        return other
    return kept


def _distance(job: Job) -> tuple[int, int, int]:
    known = sum(post.outcome is not None or post.verdict is not None for post in job.posts)
    way = 0 if job.state in _WAITS else 2 if job.state.is_final else 1
    return job.post_count, way, known


def _went_separate_ways(kept: Job, other: Job) -> bool:
    return any(known.began_at != post.began_at for post in other.posts if (known := kept.post(post.number)) is not None)
