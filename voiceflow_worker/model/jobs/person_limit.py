"""Limits on the attempts to call one person: `3/24h`, at most three within any 24 hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.duration import LONGEST, checked_duration, read_duration, write_duration

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
        """The limit as a clause: `3 attempts within 24h`."""
        return f"{count_of(self.attempts, 'attempt')} within {write_duration(self.span)}"

    def __str__(self) -> str:
        return f"{self.attempts}/{write_duration(self.span)}"


def read_person_limit(value: object) -> PersonLimit:
    """The limit that a text such as `3/24h` names. Raises ValueError."""
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
