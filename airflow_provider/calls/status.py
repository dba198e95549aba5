"""The calls that a task waits for, and how far they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from voiceflow_worker import CallQueue, Job, JobState
from voiceflow_worker.core.base.reading import count_states, due_count, due_jobs, get_jobs
from voiceflow_worker.errors import JobNotFoundError

GRACE = timedelta(seconds=10)
"""The time that a worker or a receiver has to settle an overdue job before the task sweeps."""


class Goal(StrEnum):
    """The point in a call's life that a task waits for."""

    OUTCOME = "outcome"
    """The end of the call, as its summary reports it."""
    ACCEPTED = "accepted"
    """The acceptance of the call by 8x8."""
    NOTHING = "nothing"

    @classmethod
    def named(cls, name: str | None) -> Goal:
        """Return the goal for an operator's `wait_for`. Raises ValueError for an unknown name."""
        if name is None:
            return cls.NOTHING
        if name not in {cls.OUTCOME, cls.ACCEPTED}:
            raise ValueError(f"wait_for={name!r}: use 'outcome', 'accepted' or None")
        return cls(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStatus:
    """The calls that a task waits for, counted by their states.

    `ended` counts those whose wait is over. `unsent` counts calls that are due, are being sent, or will be due within
    `GRACE`. `overdue` counts calls whose time limit passed more than `GRACE` ago, usually because no worker sweeps the
    queue. `doubts` are the calls in doubt, and `doubts_due` counts those of them that are to be looked up in the log of
    8x8. `jobs` has the calls themselves, but is empty for a batch.
    """

    states: Mapping[JobState, int]
    ended: int
    unsent: int
    overdue: int
    doubts: Sequence[Job]
    doubts_due: int
    jobs: Sequence[Job] = ()

    @property
    def total(self) -> int:
        """The number of all calls."""
        return sum(self.states.values())

    @property
    def waiting(self) -> int:
        """The number of calls that wait for their first or next POST."""
        return self.states[JobState.QUEUED] + self.states[JobState.LEASED]

    @property
    def needs_worker(self) -> bool:
        """Whether there is anything for a worker to do now."""
        return bool(self.unsent or self.overdue or self.doubts_due)

    @property
    def progress(self) -> str:
        """The counts of calls in words, for logs. A call that is redialled is one call."""
        in_progress = self.states[JobState.SUBMITTED] + self.states[JobState.SENDING]
        counts = ((self.waiting, "waiting"), (in_progress, "in progress"), (len(self.doubts), "in doubt"))
        rest = ", ".join(f"{count} {what}" for count, what in counts if count)
        over = self.total - sum(count for count, _ in counts)
        return f"{over} of {self.total} calls have ended{f' ({rest})' if rest else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitedCalls:
    """The calls that a task waits for, by their ids or as a batch, and when that wait is over.

    `sends` is True if the task sends them itself. A call that is in doubt counts as ended when `doubt_timeout` has
    passed since its POST. The wait is over when all calls have ended. A batch of other tasks `begins_later`: without
    calls, its wait is not over.
    """

    job_ids: Sequence[str] = ()
    batch_id: str | None = None
    goal: Goal = Goal.OUTCOME
    sends: bool = False
    doubt_timeout: timedelta = timedelta(minutes=15)
    begins_later: bool = False

    async def status(self, queue: CallQueue) -> WaitStatus:
        """Return the status of the calls now. Raises JobNotFoundError for an id that the store does not have."""
        if self.batch_id is not None:
            return await self._counted(queue, self.batch_id)
        found = await get_jobs(queue.store, self.job_ids)
        for job_id in self.job_ids:
            if job_id not in found:
                raise JobNotFoundError(job_id)
        return self.status_of([found[job_id] for job_id in self.job_ids], now=queue.store.clock.now())

    def status_of(self, jobs: Sequence[Job], *, now: datetime) -> WaitStatus:
        """Return the status of these jobs."""
        return self._status(
            Counter(job.state for job in jobs),
            now=now,
            soon=sum(job.state is JobState.QUEUED and job.due_at <= now + GRACE for job in jobs),
            overdue=sum(job.state in self._timed and now >= job.due_at + GRACE for job in jobs),
            doubts=[job for job in jobs if job.state is JobState.IN_DOUBT],
            jobs=jobs,
        )

    async def _counted(self, queue: CallQueue, batch_id: str) -> WaitStatus:
        """Return the status of a batch, counted by the store."""
        store, now = queue.store, queue.store.clock.now()
        timed = [await due_jobs(store, queue.name, state, by=now - GRACE) for state in self._timed]
        # Before the count of all: a call that is leased in between is counted twice, and not taken for one that was
        # sent.
        soon = await due_count(store, queue.name, by=now + GRACE, batch_id=batch_id)
        states = await count_states(store, queue.name, batch_id=batch_id)
        doubts: Sequence[Job] = ()
        if states[JobState.IN_DOUBT]:
            doubts = await queue.find(states=[JobState.IN_DOUBT], batch_id=batch_id, limit=None)
        overdue = sum(job.batch_id == batch_id for jobs in timed for job in jobs)
        return self._status(states, now=now, soon=soon, overdue=overdue, doubts=doubts)

    def _status(
        self,
        states: Mapping[JobState, int],
        *,
        now: datetime,
        soon: int,
        overdue: int,
        doubts: Sequence[Job],
        jobs: Sequence[Job] = (),
    ) -> WaitStatus:
        over = sum(count for state, count in states.items() if self._is_over(state))
        return WaitStatus(
            states=states,
            ended=over + sum(self.is_settled(job, now=now) for job in doubts),
            unsent=soon + states[JobState.LEASED] + states[JobState.SENDING],
            overdue=overdue,
            doubts=doubts,
            doubts_due=sum(job.due_at <= now for job in doubts),
            jobs=jobs,
        )

    @property
    def _timed(self) -> set[JobState]:
        """The states with a time limit. A sweep moves a job out of such a state when the limit has passed."""
        states = {JobState.LEASED, JobState.SENDING}
        return states | {JobState.SUBMITTED} if self.goal is Goal.OUTCOME else states

    def _is_over(self, state: JobState) -> bool:
        return state.is_final or (state is JobState.SUBMITTED and self.goal is not Goal.OUTCOME)

    def is_settled(self, job: Job, *, now: datetime) -> bool:
        """Return whether the wait for this job is over: also if it has been in doubt for so long."""
        return now >= self.doubted_until(job) if job.state is JobState.IN_DOUBT else self._is_over(job.state)

    def doubted_until(self, job: Job) -> datetime:
        """Return until when the task waits for evidence about a job in doubt."""
        post = job.open_post or job.last_post
        return (post.began_at if post is not None else job.created_at) + self.doubt_timeout

    def is_over(self, status: WaitStatus) -> bool:
        """Return whether all calls have ended."""
        if self.begins_later and self.batch_id is not None and not status.total:
            return False
        return status.ended >= status.total

    def __str__(self) -> str:
        return f"call {', '.join(self.job_ids)}" if self.batch_id is None else f"batch {self.batch_id}"
