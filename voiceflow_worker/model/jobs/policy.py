"""The policies of a queue: time limits, redials, and attempts for each person."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias, cast

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.status import REACHED, SessionStatus
from voiceflow_worker.model.text.arguments import checked_duration
from voiceflow_worker.model.text.wording import (
    LONGEST,
    count_of,
    quoted,
    read_duration,
    write_duration,
)

_S = SessionStatus
USUAL_REDIALS = (_S.BUSY, _S.NO_ANSWER)
"""The outcomes after which a call is made again if only the number of redials is given."""
_UNREACHED = frozenset({_S.NO_ANSWER, _S.BUSY, _S.CANCELED})
_REDIALLED: Mapping[str, frozenset[SessionStatus]] = {
    **{status.value: frozenset({status}) for status in (*sorted(_UNREACHED), _S.ERROR)},
    "CANCELLED": frozenset({_S.CANCELED}),
    "UNREACHED": _UNREACHED,
    "FAILED": frozenset({_S.FAILED, _S.ERROR}),
}
_WORDS = "busy, no_answer, canceled, unreached (these three together), error, or failed (error included)"


def read_redial_on(text: str | Iterable[str]) -> frozenset[SessionStatus]:
    """Return the statuses that a text such as `busy,no-answer` names.

    Raises InvalidInputError for an unknown word, and for statuses of people who were reached or have opted out.
    """
    words = text.split(",") if isinstance(text, str) else list(text)
    for word in words:
        if _name(word) not in _REDIALLED:
            raise InvalidInputError(f"{word.strip()[:40]!r} is not an outcome that can be redialled; give {_WORDS}")
    return frozenset[SessionStatus]().union(*(_REDIALLED[_name(word)] for word in words))


def read_outcomes(words: Iterable[str], *, others: Iterable[str] = ()) -> frozenset[str]:
    """Return the outcomes that words such as `busy` or `busy,no-answer` mean, named as in totals.

    `others` are valid names besides the known statuses. Raises InvalidInputError.
    """
    known = {_name(each): {each} for each in (*others, *SessionStatus)} | {"CANCELLED": {_S.CANCELED.value}}
    known |= {"REACHED": {each.value for each in REACHED}, "UNREACHED": {each.value for each in _UNREACHED}}
    found: set[str] = set()
    for word in ",".join(words).split(","):
        if _name(word) not in known:
            raise InvalidInputError(
                f"{word.strip()[:40]!r} is not an outcome; give one or more of: {', '.join(sorted(known)).lower()}"
            )
        found |= known[_name(word)]
    return frozenset(found)


def _name(word: str) -> str:
    return word.strip().upper().replace("-", "_").replace(" ", "_")


def redial_words(value: object) -> tuple[str, ...]:
    """Return the names of the statuses that a setting such as `busy,no-answer` means. Raises ValueError."""
    try:
        found = read_redial_on(value if isinstance(value, str) else [*map(str, cast("Iterable[object]", value))])
    except (InvalidInputError, TypeError) as error:
        raise ValueError(f"{error}; name outcomes with commas between, such as busy,no_answer") from None
    return tuple(sorted(status.value for status in found))


RedialWait: TypeAlias = timedelta | Mapping[SessionStatus, timedelta]
"""The wait before a redial: one, or one for each outcome."""


def read_redial_after(value: object) -> RedialWait:
    """Return the wait that a text such as `30m`, or `busy=5m,no_answer=2h`, means. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, Mapping):
        pairs = [(str(word), wait) for word, wait in cast("Mapping[object, object]", value).items()]
    elif "=" in (text := str(value)):
        pairs = [(word, wait) for word, _, wait in (part.partition("=") for part in text.split(","))]
    else:
        return read_duration(text)
    waits: dict[SessionStatus, timedelta] = {}
    for word, wait in pairs:
        try:
            found = dict.fromkeys(
                read_redial_on(word), wait if isinstance(wait, timedelta) else read_duration(str(wait))
            )
        except (InvalidInputError, ValueError) as error:
            raise ValueError(f"{word.strip()[:40]}={quoted(wait)}: {error}") from None
        if twice := [each for each in found if waits.get(each, found[each]) != found[each]]:
            raise ValueError(f"{min(twice).lower()} has two waits; keep one of them")
        waits |= found
    return waits


def write_redial_after(after: RedialWait) -> str:
    """Return a text that `read_redial_after` reads as this wait."""
    if isinstance(after, timedelta):
        return write_duration(after)
    return ",".join(f"{status.lower()}={write_duration(wait)}" for status, wait in sorted(after.items()))


def redial_policy(on: str | Iterable[str], *, limit: int, after: RedialWait, spare: bool = False) -> RedialPolicy:
    """Return a redial policy. Raises InvalidInputError for a limit above 0 without outcomes to call again after.

    With `spare`, waits for outcomes that are not named are left out.
    """
    statuses = read_redial_on(on)
    if limit > 0 and not statuses:
        raise InvalidInputError(
            "a redial policy needs the outcomes after which to call again. Name them (`redial_on: busy,no_answer`), "
            "or allow no redial (`redial_max: 0`)."
        )
    if spare and isinstance(after, Mapping):
        after = {status: wait for status, wait in after.items() if status in statuses}
    return RedialPolicy(on=statuses, limit=limit, after=after)


MOST_ATTEMPTS = 20
"""The highest limit that can be set. It is low, because a store keeps a record for each attempt within the span."""
_REMEDY = "give a number of attempts and a span of time, such as 3/24h"


@dataclass(frozen=True, slots=True)
class PersonLimit:
    """A limit: at most `attempts` attempts to call one person within any `span` of time."""

    attempts: int
    span: timedelta

    def __post_init__(self) -> None:
        checked_duration("span", self.span)
        if not 1 <= self.attempts <= MOST_ATTEMPTS or not timedelta() < self.span <= LONGEST:
            raise InvalidInputError(
                f"a limit per person of {self.in_words()} is impossible: give 1 to {MOST_ATTEMPTS} attempts within a "
                f"span of more than 0 and at most {LONGEST.days} days"
            )

    def in_words(self) -> str:
        """Return the limit as a clause: `3 attempts within 24h`."""
        return f"{count_of(self.attempts, 'attempt')} within {write_duration(self.span)}"

    def __str__(self) -> str:
        return f"{self.attempts}/{write_duration(self.span)}"


def strictest(limits: Iterable[PersonLimit]) -> PersonLimit | None:
    """Return the limit that keeps all of these: the fewest attempts within the longest span."""
    found = list(limits)
    return PersonLimit(min(each.attempts for each in found), max(each.span for each in found)) if found else None


def read_person_limit(value: object) -> PersonLimit:
    """Return the limit that a text such as `3/24h` names. Raises ValueError."""
    if isinstance(value, PersonLimit):
        return value
    attempts, slash, span = str(value).partition("/")
    if not slash:
        raise ValueError(f"it has no span of time; {_REMEDY}")
    try:
        most = int(attempts)
    except ValueError:
        raise ValueError(f"{attempts[:20]!r} is not a number of attempts; {_REMEDY}") from None
    try:
        return PersonLimit(most, read_duration(span))
    except InvalidInputError as error:
        raise ValueError(str(error)) from None
    except ValueError as error:
        raise ValueError(f"{span[:20]!r} cannot be the span of time: {error}") from None


class OutcomeSource(StrEnum):
    """The source from which a queue learns how its calls ended."""

    WEBHOOK = "webhook"
    """8x8 sends a session summary (VSS) for each call."""
    NONE = "none"
    """No receiver runs: a job ends as `accepted` when 8x8 answers CREATED."""


Outcomes = OutcomeSource
"""The public name of `OutcomeSource`."""


LEAST_DOUBT = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """The policy of one queue. Raises InvalidInputError for a duration below zero or above 100 years.

    `submit_window` is the time from the journal entry of a POST to its `validUntil`. `ringing` is the longest time that
    a phone rings, `longest_call` the longest duration of a call, and `clock_skew` the largest difference between this
    clock and that of 8x8. A submitted call waits for its summary until `summary_deadline`. A job that is still valid
    fails if more than `missed_windows` of its POSTs come back as expired (-1015, -2007). `export_settle` is the longest
    delay of a row in the log export. `first_check` and `longest_check` are the waits between two looks for evidence,
    `first_backoff` and `longest_backoff` those between two tries. Many calls at once may bridge to a number in
    `shared_numbers`.
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
    first_check: timedelta = timedelta(minutes=1)
    longest_check: timedelta = timedelta(hours=1)
    first_backoff: timedelta = timedelta(milliseconds=500)
    longest_backoff: timedelta = timedelta(seconds=10)
    shared_numbers: frozenset[str] = frozenset()
    max_per_person: PersonLimit | None = None

    def __post_init__(self) -> None:
        # A longer one could give a time beyond the calendar, and then the evidence of a call could not be stored.
        for field in fields(self):
            if not isinstance(field.default, timedelta):
                continue
            duration = getattr(self, field.name)
            if not timedelta() <= duration <= LONGEST:
                raise InvalidInputError(
                    f"{field.name} is {duration}; give a duration from 0 to {LONGEST.days} days, which is 100 years"
                )

    @property
    def doubt_kept(self) -> timedelta:
        """Time for which a call stays in doubt after its POST: the retention, and at least a week."""
        return max(self.retention, LEAST_DOUBT)


def backoff(failures: int, *, first: timedelta, longest: timedelta, seed: str) -> timedelta:
    """Return the wait after this many failures in a row: from `first`, doubled each time, to `longest`.

    It is shortened by up to half, the same for each `seed`: jobs that failed together must not retry together.
    """
    doubled = first * (1 << min(max(failures - 1, 0), 30))
    whole = min(doubled, longest)
    return whole * (0.5 + 0.5 * spread(f"{seed}/{failures}"))


def spread(seed: str) -> float:
    """Return a pseudo-random number in [0, 1), the same for the same seed."""
    # 48 bits: the largest number of 54 bits or more would round up to 1.0 as a float.
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=6).digest()) / 2**48
