"""The policy of a queue: time limits of calls, and the meaning of missing evidence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from voiceflow_worker.model.jobs.person_limit import PersonLimit


class OutcomeSource(StrEnum):
    """The source of outcomes."""

    WEBHOOK = "webhook"
    """8x8 sends a session summary (VSS) for each call."""
    NONE = "none"
    """No receiver runs: a job ends as `accepted` when 8x8 answers CREATED."""


Outcomes = OutcomeSource
"""The public name of `OutcomeSource`."""


class MissingMeans(StrEnum):
    """The meaning of a log export without a row for a call in doubt."""

    NOTHING = "nothing"
    """Rows may come late, by an undocumented delay: the call stays in doubt."""
    NOT_PLACED = "not_placed"
    """Long after the call could have been made and ended, it counts as not placed and is sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """The policy of one queue.

    `submit_window`: a POST carries `validUntil` no later than this after its journal entry, so a doubt has an end.
    `ringing`: how long a phone may ring after 8x8 took the call. `clock_skew`: how far two clocks may differ.
    `summary_deadline`: how long a submitted call waits for its summary. `missed_windows`: how many POSTs may come
    back as expired (-1015, -2007) while the job itself is valid, before the job fails. `longest_call`: how long a
    call can last at most; `export_settle`: how long after its end its row may take to appear in the log export.
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
    missing_means: MissingMeans = MissingMeans.NOTHING
    first_look: timedelta = timedelta(minutes=1)
    longest_look: timedelta = timedelta(hours=1)
    first_backoff: timedelta = timedelta(milliseconds=500)
    longest_backoff: timedelta = timedelta(seconds=10)
    shared_numbers: frozenset[str] = frozenset()
    max_per_person: PersonLimit | None = None


def backoff(failures: int, *, first: timedelta, longest: timedelta, seed: str) -> timedelta:
    """The wait after `failures` failures in a row: doubling from `first` to `longest`, spread over its upper half.

    The spread (equal jitter) keeps jobs that failed together from retrying together. It is computed from `seed`, so the
    same job and count give the same wait.
    """
    doubled = first * (1 << min(max(failures - 1, 0), 30))
    whole = min(doubled, longest)
    return whole * (0.5 + 0.5 * spread(f"{seed}/{failures}"))


def spread(seed: str) -> float:
    """A number in [0, 1) that looks random and is the same for the same seed."""
    # 48 bits: from 54 on the largest of them would round up to 1.0 as a float.
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=6).digest()) / 2**48
