"""The recent response times of 8x8, and from them the time after which no answer is expected."""

from __future__ import annotations

LATE = 60.0
"""The seconds for which a response time counts at least. It is forgotten before three times as many have passed."""
SHORTEST = 1.0
"""The shortest wait, in seconds, after which no answer is expected."""


class AnswerTimes:
    """The slowest of the recent response times. The argument `at` is the current time, in monotonic seconds."""

    __slots__ = ("_before", "_began", "_now")

    def __init__(self) -> None:
        self._began = float("-inf")
        self._now = 0.0
        self._before = 0.0

    def add(self, seconds: float, *, at: float) -> None:
        """Record how many seconds an answer took, or how long a POST waited in vain for one."""
        self._turn(at)
        self._now = max(self._now, seconds)

    def long_enough(self, *, at: float, at_most: float) -> float:
        """Seconds after which no answer is expected: twice the slowest recent response time, within limits.

        The result is at most `at_most`, but never less than one second.
        """
        self._turn(at)
        return max(SHORTEST, min(2 * max(self._now, self._before), at_most))

    def _turn(self, at: float) -> None:
        if at - self._began < LATE:
            return
        self._before = self._now if at - self._began < 2 * LATE else 0.0
        self._now = 0.0
        self._began = at
