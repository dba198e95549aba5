"""Where a call stands, as the task that waits for it sees it. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from voiceflow_worker import Job, JobState

GRACE = timedelta(seconds=10)
"""How long somebody else (a worker, a receiver) has to move a job that is overdue before the task does it."""


class Goal(StrEnum):
    """What a task waits for."""

    OUTCOME = "outcome"
    """The call has ended, as its summary tells."""
    ACCEPTED = "accepted"
    """8x8 took the call."""
    NOTHING = "nothing"
    """The call is in the queue."""

    @classmethod
    def named(cls, name: str | None) -> Goal:
        """The goal of the operator's `wait_for`; raises ValueError for another name."""
        if name is None:
            return cls.NOTHING
        if name not in {cls.OUTCOME, cls.ACCEPTED}:
            raise ValueError(f"wait_for={name!r}: use 'outcome', 'accepted' or None")
        return cls(name)


class Standing(StrEnum):
    """What a look at a job tells the task that waits for it."""

    WAITING = "waiting"
    OVER = "over"
    """What was waited for has happened, or cannot happen any more."""
    DOUBTFUL = "doubtful"
    """In doubt for longer than the task's patience: a person should look."""
    UNSENT = "unsent"
    """It is due, and this task is who sends it."""
    OVERDUE = "overdue"
    """Its time limit has passed and nobody moved it: no worker sweeps this queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a task waits.

    `sends`: it is the task who sends. `patience`: how long after its POST a call may be in doubt before the task gives
    up; its evidence usually comes with the summary.
    """

    goal: Goal
    sends: bool
    patience: timedelta


def standing_of(job: Job, terms: Terms, *, now: datetime) -> Standing:
    """Where this job stands for a task that waits on these terms."""
    match job.state:
        case state if state.is_final:
            return Standing.OVER
        case JobState.SUBMITTED if terms.goal is not Goal.OUTCOME:
            return Standing.OVER
        case JobState.IN_DOUBT:
            return Standing.DOUBTFUL if now >= doubted_at(job) + terms.patience else Standing.WAITING
        case JobState.QUEUED:
            return Standing.UNSENT if terms.sends and job.due_at <= now else Standing.WAITING
        case _:
            return Standing.OVERDUE if now >= job.due_at + GRACE else Standing.WAITING


def doubted_at(job: Job) -> datetime:
    """When the POST in question began: a doubt does not get younger because a task looks at it again."""
    post = job.open_post or job.last_post
    return post.began_at if post is not None else job.created_at


def is_unsent(job: Job, *, now: datetime) -> bool:
    """Whether there is still something to send, or being sent, for this job now or in a moment."""
    match job.state:
        case JobState.LEASED | JobState.SENDING:
            return True
        case JobState.QUEUED:
            return job.due_at <= now + GRACE
        case _:
            return False


def are_settled(jobs: Iterable[Job], terms: Terms, *, now: datetime) -> bool:
    """Whether nothing more is to be waited for: each job is over, or in doubt for longer than the task's patience."""
    return all(standing_of(job, terms, now=now) in {Standing.OVER, Standing.DOUBTFUL} for job in jobs)
