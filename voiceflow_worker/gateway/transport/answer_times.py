"""How long the answers of 8x8 have taken of late, and so how long one that is still to come may take."""

from __future__ import annotations

LATE = 60.0
"""Seconds that "of late" lasts at least; what is older is forgotten before twice that."""
SHORTEST = 1.0
"""Seconds that are waited for another answer at least."""


class AnswerTimes:
    """The slowest answer of late. Times are monotonic seconds, and given."""

    __slots__ = ("_before", "_began", "_now")

    def __init__(self) -> None:
        self._began = float("-inf")
        self._now = 0.0
        self._before = 0.0

    def add(self, seconds: float, *, at: float) -> None:
        """An answer took so long, or did not come within that time."""
        self._turn(at)
        self._now = max(self._now, seconds)

    def long_enough(self, *, at: float, at_most: float) -> float:
        """Seconds after which no other answer is to be expected: twice the slowest of late, a second at least.

        `at_most` is how long an answer is waited for at all.
        """
        self._turn(at)
        return max(SHORTEST, min(2 * max(self._now, self._before), at_most))

    def _turn(self, at: float) -> None:
        if at - self._began < LATE:
            return
        self._before = self._now if at - self._began < 2 * LATE else 0.0
        self._now = 0.0
        self._began = at
