"""The recent response times of 8x8, and an upper limit for the next one."""

from __future__ import annotations

LATE = 60.0
"""Seconds for which a response time counts at least; it is forgotten before twice that."""
SHORTEST = 1.0
"""Shortest wait for another answer, in seconds."""


class AnswerTimes:
    """The slowest recent answer. The caller gives the time, in monotonic seconds."""

    __slots__ = ("_before", "_began", "_now")

    def __init__(self) -> None:
        self._began = float("-inf")
        self._now = 0.0
        self._before = 0.0

    def add(self, seconds: float, *, at: float) -> None:
        """Record an answer that took this long, or did not come within this time."""
        self._turn(at)
        self._now = max(self._now, seconds)

    def long_enough(self, *, at: float, at_most: float) -> float:
        """Seconds after which no further answer is expected: twice the slowest recent answer, and at least one second.

        `at_most` is the longest wait for any answer.
        """
        self._turn(at)
        return max(SHORTEST, min(2 * max(self._now, self._before), at_most))

    def _turn(self, at: float) -> None:
        if at - self._began < LATE:
            return
        self._before = self._now if at - self._began < 2 * LATE else 0.0
        self._now = 0.0
        self._began = at
