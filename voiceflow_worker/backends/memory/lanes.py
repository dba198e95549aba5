"""Lanes in memory: the queued jobs of one queue in the order of leasing, without those that may not be leased now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from heapq import heappop, heappush

from voiceflow_worker.model.jobs.job import Job, JobState

Place = tuple[datetime, str]
"""due_at and id: the sort order of leasing within a priority."""
_Lane = tuple[int, str | None]
"""Priority and batch."""
OpensAt = Callable[[str], datetime | None]
"""When the gate of a batch opens; None for one that is open."""
NEVER = datetime.max.replace(tzinfo=UTC)


class Lanes:
    """The lanes of a queue. A lane is a heap of the queued jobs of one priority and batch; its first job is its head.

    Heads that are not due are never looked at. Those of a closed batch are put aside until its gate changes or its time
    comes. An outdated entry of a job that has moved stays in its heap until it comes up.
    """

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = jobs
        self._lanes: dict[_Lane, list[Place]] = {}
        self._first: dict[_Lane, Place] = {}
        # The batch, "" for none, so that two heads of one place compare: a job that moved to another batch leaves one.
        self._heads: dict[int, list[tuple[Place, str]]] = {}
        self._of_batch: defaultdict[str, set[int]] = defaultdict(set)
        self._shelves: list[tuple[datetime, str]] = []
        self._lapsed: set[str] = set()
        self._latest: datetime | None = None

    def add(self, job: Job) -> None:
        """Add a queued job to its lane."""
        lane, place = (job.priority, job.batch_id), (job.due_at, job.id)
        heappush(self._lanes.setdefault(lane, []), place)
        if job.batch_id is not None:
            self._of_batch[job.batch_id].add(job.priority)
        first = self._first.get(lane)
        if first is None or place < first:
            self._show(lane, place)

    def leave(self, job: Job) -> None:
        """Note that a job has left its place in its lane."""
        self._lapsed.discard(job.id)

    def open(self, batch_id: str) -> None:
        """Look at a batch again, because its gate was changed."""
        for priority in list(self._of_batch.get(batch_id, ())):
            self._settle((priority, batch_id))

    def take(self, limit: int, *, at: datetime, opens_at: OpensAt, batch_id: str | None) -> list[Job]:
        """Take out at most `limit` jobs that may be leased, of the whole queue or of one batch."""
        self._bring_back(at)
        while self._shelves and self._shelves[0][0] <= at:
            self.open(heappop(self._shelves)[1])
        taken: list[Job] = []
        if batch_id is None:
            for priority in sorted(self._heads, reverse=True):
                self._go_through(priority, taken, limit, at=at, opens_at=opens_at)
        elif opens_at(batch_id) is None:
            for priority in sorted(self._of_batch.get(batch_id, ()), reverse=True):
                lane = (priority, batch_id)
                while len(taken) < limit and (first := self._trimmed(lane)) is not None and first[0] <= at:
                    self._take(lane, taken, at=at)
                self._settle(lane)
        return taken

    def _go_through(self, priority: int, taken: list[Job], limit: int, *, at: datetime, opens_at: OpensAt) -> None:
        heads = self._heads[priority]
        while heads and heads[0][0][0] <= at and len(taken) < limit:
            place, batch = heads[0]
            lane = (priority, batch or None)
            if self._first.get(lane) != place:
                heappop(heads)
            elif self._trimmed(lane) != place:
                self._settle(lane)
            elif batch and (opens := opens_at(batch)) is not None:
                del self._first[lane]
                if opens < NEVER:
                    heappush(self._shelves, (opens, batch))
            else:
                self._take(lane, taken, at=at)
                self._settle(lane)
        if not heads:
            del self._heads[priority]

    def _take(self, lane: _Lane, taken: list[Job], *, at: datetime) -> None:
        places = self._lanes[lane]
        place = heappop(places)
        while places and places[0] == place:  # it had left, and came back as it was
            heappop(places)
        job = self._jobs[place[1]]
        if job.is_expired(at=at):
            self._lapsed.add(job.id)
        else:
            taken.append(job)

    def _show(self, lane: _Lane, place: Place) -> None:
        self._first[lane] = place
        heappush(self._heads.setdefault(lane[0], []), (place, lane[1] or ""))

    def _settle(self, lane: _Lane) -> None:
        """Update the head of a lane."""
        first = self._trimmed(lane)
        if first is None:
            self._first.pop(lane, None)
        elif first != self._first.get(lane):
            self._show(lane, first)

    def _trimmed(self, lane: _Lane) -> Place | None:
        """The first place of a lane whose job is still there."""
        places = self._lanes.get(lane)
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
        if places is not None:
            del self._lanes[lane]
            if lane[1] is not None:
                self._of_batch[lane[1]].discard(lane[0])
                if not self._of_batch[lane[1]]:
                    del self._of_batch[lane[1]]
        return None

    def _bring_back(self, at: datetime) -> None:
        """Bring back jobs that expired only because the clock had jumped ahead."""
        if self._latest is not None and at < self._latest:
            for job in [self._jobs[job_id] for job_id in self._lapsed]:
                if not job.is_expired(at=at):
                    self._lapsed.discard(job.id)
                    self.add(job)
        self._latest = at
