"""Leads: how long a trip takes, measured, so that it is begun early enough."""

from __future__ import annotations

from datetime import timedelta

from voiceflow_worker.core.ports import Clock

FORGET = 15.0
"""Seconds after which half of a slow time is forgotten, once trips are faster again."""


class PeakLatency:
    """How long something takes: the longest of late.

    A slow time counts at once, for the next one may be as slow, and is then forgotten by halves: a disk that stalls now
    and then goes on doing so, and a mean would be too short for every stall.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._at = 0.0

    @property
    def time(self) -> timedelta:
        """How long it may take now; zero until it was measured."""
        return timedelta(seconds=self._seconds)

    def began(self) -> float:
        """The moment that `ended` measures from."""
        return self._clock.monotonic()

    def ended(self, began: float) -> None:
        """Take note of one that began then, and has ended now."""
        now = self._clock.monotonic()
        took = max(now - began, 0.0)
        kept = max(self._seconds - took, 0.0) * 0.5 ** (max(now - self._at, 0.0) / FORGET)
        self._seconds, self._at = took + kept, now
