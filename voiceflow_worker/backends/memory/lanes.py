"""Lanes in memory: the queued jobs of one queue in the order of leasing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from heapq import heapify, heappop, heappush

from voiceflow_worker.model.jobs.job import Job, JobState

Place = tuple[datetime, str]
"""The place of a job in its lane: due_at and id. Within a priority, jobs are leased in this order."""
_Lane = tuple[int, str | None]
"""The priority and the batch of a lane."""


class Lanes:
    """The lanes of a queue. A lane is a heap of the queued jobs of one priority and batch.

    A lease looks at the first job of each lane. It looks at the next job of a lane only after it has taken the first
    one. The entry of a job that has left the lane stays in the heap, and is dropped when it is the first of the lane.
    """

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = jobs
        self._lanes: dict[_Lane, list[Place]] = {}
        self._lapsed: set[str] = set()
        self._latest: datetime | None = None

    def add(self, job: Job) -> None:
        """Add a queued job to its lane."""
        heappush(self._lanes.setdefault((job.priority, job.batch_id), []), (job.due_at, job.id))

    def leave(self, job: Job) -> None:
        """Record that a job has left its lane."""
        self._lapsed.discard(job.id)

    def take(self, limit: int, *, at: datetime, is_closed: Callable[[str], bool], batch_id: str | None) -> list[Job]:
        """Remove and return at most `limit` jobs that may be leased, from the whole queue or from one batch."""
        self._bring_back(at)
        heads = [
            (-priority, first, batch or "")
            for priority, batch in list(self._lanes)
            if batch_id in {None, batch}
            and not (batch and is_closed(batch))
            and (first := self._first((priority, batch))) is not None
            and first[0] <= at
        ]
        heapify(heads)
        taken: list[Job] = []
        while heads and len(taken) < limit:
            urgency, _, batch = heappop(heads)
            lane = (-urgency, batch or None)
            self._take(lane, taken, at=at)
            following = self._first(lane)
            if following is not None and following[0] <= at:
                heappush(heads, (urgency, following, batch))
        return taken

    def _take(self, lane: _Lane, taken: list[Job], *, at: datetime) -> None:
        places = self._lanes[lane]
        place = heappop(places)
        while places and places[0] == place:  # a duplicate: the job left the lane, and returned to the same place
            heappop(places)
        job = self._jobs[place[1]]
        if job.is_expired(at=at):
            self._lapsed.add(job.id)
        else:
            taken.append(job)

    def _first(self, lane: _Lane) -> Place | None:
        """The due time and id of the first job still in a lane. An empty lane is removed; the result is then None."""
        places = self._lanes[lane]
        while places:
            due_at, job_id = places[0]
            job = self._jobs.get(job_id)
            if (
                job is not None
                and job.state is JobState.QUEUED
                and (job.due_at, job.priority, job.batch_id) == (due_at, *lane)
            ):
                return places[0]
            heappop(places)
        del self._lanes[lane]
        return None

    def _bring_back(self, at: datetime) -> None:
        """Put jobs back into their lanes, if they seemed expired before the clock was set back."""
        if self._latest is not None and at < self._latest:
            for job in [self._jobs[job_id] for job_id in self._lapsed]:
                if not job.is_expired(at=at):
                    self._lapsed.discard(job.id)
                    self.add(job)
        self._latest = at
