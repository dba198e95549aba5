"""Where a whole batch stands, counted rather than listed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from airflow_provider.calls.standing import GRACE, Goal, doubted_at
from voiceflow_worker import CallQueue, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStanding:
    """How many calls of a batch there are, are over (too long in doubt counts), are due to be sent, are overdue.

    `unsent` counts what is due in a moment, and what is being sent.
    """

    total: int
    ended: int
    doubtful: int
    due: int
    unsent: int
    overdue: int


async def batch_standing(queue: CallQueue, batch_id: str, *, goal: Goal, patience: timedelta) -> BatchStanding:
    """Where the calls of this batch stand now."""
    jobs, now = queue.store.jobs, queue.store.clock.now()
    counts = await jobs.count(queue.name, batch_id=batch_id)
    total = sum(counts.values())
    ended = sum(count for state, count in counts.items() if state.is_final)
    if goal is not Goal.OUTCOME:
        ended += counts[JobState.SUBMITTED]
    doubtful = 0
    if counts[JobState.IN_DOUBT]:
        found = await queue.find(states=[JobState.IN_DOUBT], batch_id=batch_id, limit=None)
        doubtful = sum(1 for job in found if now >= doubted_at(job) + patience)
    late = await jobs.count(queue.name, batch_id=batch_id, due_before=now - GRACE)
    due = (await jobs.count(queue.name, batch_id=batch_id, due_before=now))[JobState.QUEUED]
    soon = (await jobs.count(queue.name, batch_id=batch_id, due_before=now + GRACE))[JobState.QUEUED]
    overdue = late[JobState.LEASED] + late[JobState.SENDING]
    if goal is Goal.OUTCOME:
        overdue += late[JobState.SUBMITTED]
    return BatchStanding(
        total=total,
        ended=ended + doubtful,
        doubtful=doubtful,
        due=due,
        unsent=soon + counts[JobState.LEASED] + counts[JobState.SENDING],
        overdue=overdue,
    )
