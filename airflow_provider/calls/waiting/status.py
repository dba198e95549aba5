"""The status of a call for the task that waits for it. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from voiceflow_worker import Job, JobState

GRACE = timedelta(seconds=10)
"""Time for a worker or a receiver to move an overdue job before the task does it."""


class Goal(StrEnum):
    """The event that a task waits for."""

    OUTCOME = "outcome"
    """The end of the call, as its summary reports it."""
    ACCEPTED = "accepted"
    """8x8 accepted the call."""
    NOTHING = "nothing"

    @classmethod
    def named(cls, name: str | None) -> Goal:
        """The goal of an operator's `wait_for`. Raises ValueError for another name."""
        if name is None:
            return cls.NOTHING
        if name not in {cls.OUTCOME, cls.ACCEPTED}:
            raise ValueError(f"wait_for={name!r}: use 'outcome', 'accepted' or None")
        return cls(name)


class WaitStatus(StrEnum):
    """The status of one call for a waiting task."""

    WAITING = "waiting"
    OVER = "over"
    """The goal is reached, or cannot be reached any more."""
    DOUBTFUL = "doubtful"
    """In doubt for longer than the task's patience: a person should look."""
    UNSENT = "unsent"
    """Due, and this task sends."""
    OVERDUE = "overdue"
    """Past its time limit: no worker sweeps this queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    """The options by which a task waits.

    `sends`: the task sends its own calls. `patience`: the time after the request for which a call may be in doubt; the
    evidence usually comes with the summary.
    """

    goal: Goal
    sends: bool
    patience: timedelta

    @classmethod
    def of(cls, *, wait_for: str | None, send: str, patience: timedelta) -> WaitOptions:
        """The options of an operator's parameters. Raises ValueError for words that it does not know."""
        if send not in {"here", "worker"}:
            raise ValueError(f"send={send!r}: use 'here' (this task sends) or 'worker' (a voiceflow worker sends)")
        return cls(goal=Goal.named(wait_for), sends=send == "here", patience=patience)


def status_of(job: Job, options: WaitOptions, *, now: datetime) -> WaitStatus:
    """The status of this job for a task with these options."""
    match job.state:
        case state if state.is_final:
            return WaitStatus.OVER
        case JobState.SUBMITTED if options.goal is not Goal.OUTCOME:
            return WaitStatus.OVER
        case JobState.IN_DOUBT:
            return WaitStatus.DOUBTFUL if now >= doubted_at(job) + options.patience else WaitStatus.WAITING
        case JobState.QUEUED:
            return WaitStatus.UNSENT if options.sends and job.due_at <= now else WaitStatus.WAITING
        case _:
            return WaitStatus.OVERDUE if now >= job.due_at + GRACE else WaitStatus.WAITING


def doubted_at(job: Job) -> datetime:
    """The time of the request in doubt: further looks at it do not extend the patience."""
    post = job.open_post or job.last_post
    return post.began_at if post is not None else job.created_at


def is_unsent(job: Job, *, now: datetime) -> bool:
    """Whether this job is being sent, or will be due in a moment."""
    match job.state:
        case JobState.LEASED | JobState.SENDING:
            return True
        case JobState.QUEUED:
            return job.due_at <= now + GRACE
        case _:
            return False


def is_settled(job: Job, options: WaitOptions, *, now: datetime) -> bool:
    """Whether the wait for this job has ended: it is over, or in doubt for longer than the patience."""
    return status_of(job, options, now=now) in {WaitStatus.OVER, WaitStatus.DOUBTFUL}
