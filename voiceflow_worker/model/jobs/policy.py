"""The policy of a queue: time limits of calls, and the meaning of missing evidence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.person_limit import PersonLimit
from voiceflow_worker.model.text.duration import LONGEST, checked_duration


class OutcomeSource(StrEnum):
    """The source from which a queue learns how its calls ended."""

    WEBHOOK = "webhook"
    """8x8 sends a session summary (VSS) for each call."""
    NONE = "none"
    """No receiver runs: a job ends as `accepted` when 8x8 answers CREATED."""


Outcomes = OutcomeSource
"""The public name of `OutcomeSource`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """The policy of one queue.

    `submit_window` is the longest time from the journal entry of a POST to its `validUntil`, after which the POST can
    no longer be placed. `ringing` is the longest time that a phone rings after 8x8 accepted the call. `clock_skew` is
    the largest difference between this clock and that of 8x8. `summary_deadline` is the time that a submitted call
    waits for its summary. A job that is still valid fails if more than `missed_windows` of its POSTs come back as
    expired (-1015, -2007). `longest_call` is the longest duration of a call, and `export_settle` the longest delay from
    its end to its row in the log export. `first_look` and `longest_look` are the first and the longest wait between two
    looks for evidence about a call in doubt, `first_backoff` and `longest_backoff` those between two tries of a call
    that was not placed. Many calls at once may bridge to a number in `shared_numbers`. Raises InvalidInputError for a
    duration below zero or above 100 years.
    """

    submit_window: timedelta = timedelta(seconds=120)
    ringing: timedelta = timedelta(seconds=90)
    clock_skew: timedelta = timedelta(seconds=10)
    summary_deadline: timedelta = timedelta(hours=2)
    retention: timedelta = timedelta(days=30)
    key_retention: timedelta = timedelta(days=400)
    outcomes: OutcomeSource = OutcomeSource.WEBHOOK
    missed_windows: int = 3
    longest_call: timedelta = timedelta(hours=1)
    export_settle: timedelta = timedelta(seconds=60)
    first_look: timedelta = timedelta(minutes=1)
    longest_look: timedelta = timedelta(hours=1)
    first_backoff: timedelta = timedelta(milliseconds=500)
    longest_backoff: timedelta = timedelta(seconds=10)
    shared_numbers: frozenset[str] = frozenset()
    max_per_person: PersonLimit | None = None

    def __post_init__(self) -> None:
        # A longer one could give a time beyond the calendar, and then the evidence of a call could not be stored.
        for field in fields(self):
            if not isinstance(field.default, timedelta):
                continue
            duration = checked_duration(field.name, getattr(self, field.name))
            if not timedelta() <= duration <= LONGEST:
                raise InvalidInputError(
                    f"{field.name} is {duration}; give a duration from 0 to {LONGEST.days} days, which is 100 years"
                )


def backoff(failures: int, *, first: timedelta, longest: timedelta, seed: str) -> timedelta:
    """The wait after this many failures in a row: from `first`, doubled each time, to `longest`.

    The wait is shortened by up to half (equal jitter): jobs that failed together must not retry together. The same
    `seed` and `failures` always give the same wait.
    """
    doubled = first * (1 << min(max(failures - 1, 0), 30))
    whole = min(doubled, longest)
    return whole * (0.5 + 0.5 * spread(f"{seed}/{failures}"))


def spread(seed: str) -> float:
    """A pseudo-random number in [0, 1). The same seed gives the same number."""
    # 48 bits: the largest number of 54 bits or more would round up to 1.0 as a float.
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=6).digest()) / 2**48
