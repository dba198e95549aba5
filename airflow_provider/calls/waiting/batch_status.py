"""The status of a whole batch, counted rather than listed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from airflow_provider.calls.waiting.status import GRACE, Goal, doubted_at
from voiceflow_worker import CallQueue, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """Counts of a batch's calls.

    `ended` includes calls that are in doubt for too long. `unsent` are being sent, or due in a moment.
    """

    total: int
    ended: int
    due: int
    unsent: int
    overdue: int

    @property
    def has_ended(self) -> bool:
        """Whether all its calls have ended."""
        return self.ended >= self.total


async def batch_status(queue: CallQueue, batch_id: str, *, goal: Goal, patience: timedelta) -> BatchStatus:
    """The status of this batch now."""
    jobs, now = queue.store.jobs, queue.store.clock.now()
    counts = await jobs.count(queue.name, batch_id=batch_id)
    ended = sum(count for state, count in counts.items() if state.is_final)
    if goal is not Goal.OUTCOME:
        ended += counts[JobState.SUBMITTED]
    if counts[JobState.IN_DOUBT]:
        found = await queue.find(states=[JobState.IN_DOUBT], batch_id=batch_id, limit=None)
        ended += sum(1 for job in found if now >= doubted_at(job) + patience)
    late = await jobs.count(queue.name, batch_id=batch_id, due_before=now - GRACE)
    soon = await jobs.count(queue.name, batch_id=batch_id, due_before=now + GRACE)
    overdue = late[JobState.LEASED] + late[JobState.SENDING]
    if goal is Goal.OUTCOME:
        overdue += late[JobState.SUBMITTED]
    return BatchStatus(
        total=sum(counts.values()),
        ended=ended,
        due=(await jobs.count(queue.name, batch_id=batch_id, due_before=now))[JobState.QUEUED],
        unsent=soon[JobState.QUEUED] + counts[JobState.LEASED] + counts[JobState.SENDING],
        overdue=overdue,
    )
