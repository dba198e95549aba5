"""What the parts of a memory store share: change counts, and the keys of jobs that are gone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import anyio

from voiceflow_worker.backends.wakeups import Wakeups
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.model.jobs.job import Job, JobState


class Changes:
    """The change count of every queue; it starts at 1."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(lambda: 1)
        self._wakeups = Wakeups()

    def count(self, queue: str) -> int:
        """The queue's change count."""
        return self._counts[queue]

    def note(self, queue: str) -> None:
        """Count a change, and wake who waits for it."""
        self._counts[queue] += 1
        self._wakeups.wake(queue)

    async def next(self, queue: str, clock: Clock, *, within: float) -> None:
        """Return at the queue's next change, or when `within` seconds have passed on `clock`."""
        changed = self._wakeups.event(queue)

        async def give_up() -> None:
            await clock.sleep(within)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(give_up)
            await changed.wait()
            group.cancel_scope.cancel()


class Batches:
    """How many jobs each batch has, and who is told that its gate was ordered."""

    def __init__(self) -> None:
        self.jobs: Counter[tuple[str, str]] = Counter()
        self.queued: Counter[tuple[str, str]] = Counter()
        self.on_order: Callable[[str, str], None] = lambda _queue, _batch: None

    def count(self, job: Job, change: int) -> None:
        """Count a job that came (1) or went (-1)."""
        if job.batch_id is not None:
            place = (job.queue, job.batch_id)
            for counter in (self.jobs, self.queued)[: 2 if job.state is JobState.QUEUED else 1]:
                counter[place] += change
                if not counter[place]:
                    del counter[place]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is kept of a deleted job that had a unique key."""

    job: Job
    until: datetime


Tombstones = dict[tuple[str, str], Tombstone]
"""By queue and unique key."""
