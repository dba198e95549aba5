"""Limits on the attempts to call one person: `3/24h`, at most three within any 24 hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.duration import LONGEST, checked_duration, read_duration, write_duration

MOST_ATTEMPTS = 20
"""The highest limit that can be set, because a store keeps a record for each attempt within the span."""


@dataclass(frozen=True, slots=True)
class PersonLimit:
    """A limit: at most `attempts` attempts to call one person within any `span` of time."""

    attempts: int
    span: timedelta

    def __post_init__(self) -> None:
        checked_duration("span", self.span)
        if not 1 <= self.attempts <= MOST_ATTEMPTS or not timedelta() < self.span <= LONGEST:
            raise InvalidInputError(
                f"a limit of {self.attempts} attempts per person within {self.span} is impossible: give 1 to "
                f"{MOST_ATTEMPTS} attempts within a span of more than 0 and at most {LONGEST.days} days"
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
    try:
        if not slash:
            raise ValueError("it has no span of time")
        return PersonLimit(int(attempts), read_duration(span))
    except (ValueError, InvalidInputError) as error:
        raise ValueError(f"{error}; give attempts and a span of time, such as 3/24h") from None
