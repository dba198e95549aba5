"""The totals of queues and batches, and the tallies that jobs add to them.

A tally is a whole number for each field, so totals are exact. Stores count the states themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import REACHED, SessionStatus

ANSWERED, PLACED, MICROSECONDS = "answered", "placed", "microseconds"
OTHER_KEYS = "other_keys"
STATE, OUTCOME, ANSWER = "state:", "outcome:", "answer:"
"""The beginnings of field names."""

_LONGEST = 100
"""The most characters of a text in the name of a field."""
_MOST = 2**40
"""The most that one job adds to a field: a duration of 12 days. Sums stay below the limits of SQLite and Lua."""


def tally_of(job: Job) -> dict[str, int]:
    """Return the amounts that a job adds to totals, besides its state."""
    if not job.posts:
        return {}
    tally: dict[str, int] = {}
    pressed, seconds = False, 0.0
    for post in job.posts:
        if post.was_placed:
            tally[PLACED] = 1
        pressed = pressed or bool(post.presses)
        if post.outcome is not None:
            seconds += post.outcome.seconds or 0.0
    if seconds and (microseconds := _whole(seconds)):
        tally[MICROSECONDS] = microseconds
    if (outcome := job.outcome) is not None:
        status = job.outcome_status
        tally[OUTCOME + _outcome_name(outcome, status)] = 1
        if status in REACHED:
            tally[ANSWERED] = 1
    if pressed:
        answer = job.answer
        tally[OTHER_KEYS if answer is None else ANSWER + _named(answer)] = 1
    return tally


def outcome_name(job: Job) -> str | None:
    """Return the name of the newest outcome of a job: its status, else as 8x8 spells it; None without one."""
    outcome = job.outcome
    return None if outcome is None else _outcome_name(outcome, job.outcome_status)


def _outcome_name(outcome: Outcome, status: SessionStatus | None) -> str:
    return _named(outcome.status_text) if status is None else status.value


def _named(text: str) -> str:
    """Return a text as the name of a field, with question marks for what cannot be printed."""
    text = text[:_LONGEST]
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def _whole(amount: float) -> int:
    """Return the amount in millionths, as a whole number."""
    return max(min(round(amount * 1_000_000), _MOST), -_MOST) if isfinite(amount) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The totals of a queue or of a batch: the sum of the tallies of the jobs in the store, and of their states."""

    live: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def states(self) -> dict[JobState, int]:
        """Number of jobs by state; every state is present."""
        return {state: self.live.get(STATE + state, 0) for state in JobState}

    @property
    def has_open_calls(self) -> bool:
        """True if a job waits, is in progress, or is in doubt."""
        return any(count for state, count in self.states.items() if not state.is_final)

    @property
    def outcomes(self) -> dict[str, int]:
        """Number of jobs by the outcome of their newest session, the most frequent first."""
        return self._frequent(OUTCOME)

    @property
    def answers(self) -> dict[str, int]:
        """Number of jobs by the person's answer, the most frequent first."""
        return self._frequent(ANSWER)

    @property
    def other_keys(self) -> int:
        """Number of jobs whose person pressed keys, but none that has a name."""
        return self._sum(OTHER_KEYS)

    @property
    def seconds(self) -> float:
        """Total duration of all sessions in seconds, of every attempt."""
        return round(self._sum(MICROSECONDS) / 1_000_000, 3)

    @property
    def answered(self) -> int:
        """Number of jobs that a person answered."""
        return self._sum(ANSWERED)

    @property
    def placed(self) -> int:
        """Number of jobs with a call that was placed."""
        return self._sum(PLACED)

    def _sum(self, name: str) -> int:
        return self.live.get(name, 0)

    def _frequent(self, beginning: str) -> dict[str, int]:
        mine = [(name, amount) for name, amount in self.live.items() if amount and name.startswith(beginning)]
        mine.sort(key=lambda each: (-each[1], each[0]))
        return {name.removeprefix(beginning): amount for name, amount in mine}
