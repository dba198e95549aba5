"""The state that the ports of a memory store share: change counts, batches, and the keys of deleted jobs."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime

from voiceflow_worker.backends.wakeups import Wakeups
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.model.jobs.job import Job, JobState


class ChangeCounts:
    """Counts the changes of each queue, starting at 1, and wakes the tasks that wait for a change."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(lambda: 1)
        self._wakeups = Wakeups()

    def count(self, queue: str) -> int:
        """The change count of a queue."""
        return self._counts[queue]

    def note(self, queue: str) -> None:
        """Add 1 to the change count of a queue, and wake the tasks that wait for its next change."""
        self._counts[queue] += 1
        self._wakeups.wake(queue)

    async def next(self, queue: str, clock: Clock, *, within: float) -> None:
        """Wait for the next change of a queue, but at most `within` seconds by `clock`."""
        await self._wakeups.next(queue).wait(clock, within=within)


class Batches:
    """For each batch, the number of its jobs, and the number of its queued jobs."""

    def __init__(self) -> None:
        self.jobs: Counter[tuple[str, str]] = Counter()
        self.queued: Counter[tuple[str, str]] = Counter()

    def count(self, job: Job, change: int) -> None:
        """Count a job that was added (1) or removed (-1)."""
        if job.batch_id is not None:
            place = (job.queue, job.batch_id)
            for counter in (self.jobs, self.queued)[: 2 if job.state is JobState.QUEUED else 1]:
                counter[place] += change
                if not counter[place]:
                    del counter[place]


class SharedState:
    """The state that the ports of a memory store share.

    `tombstones` has the deleted jobs that had a unique key, by queue and key, each with the time when its key becomes
    free.
    """

    def __init__(self) -> None:
        self.changes = ChangeCounts()
        self.batches = Batches()
        self.tombstones: dict[tuple[str, str], tuple[Job, datetime]] = {}
