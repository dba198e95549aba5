"""Measured latency of trips to the store, by which they are begun early enough."""

from __future__ import annotations

from datetime import timedelta

from voiceflow_worker.core.ports import Clock

FORGET = 15.0
"""Seconds in which a slow time decays by half."""


class PeakLatency:
    """The longest recent time that a trip took.

    A slow time counts at once and then decays by halves. A mean would be too short for a disk that stalls now and then.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._at = 0.0

    @property
    def time(self) -> timedelta:
        """How long a trip may take now; zero before the first measurement."""
        return timedelta(seconds=self._seconds)

    def began(self) -> float:
        """The time to pass to `ended`."""
        return self._clock.monotonic()

    def ended(self, began: float) -> None:
        """Record a trip that began then and has ended now."""
        now = self._clock.monotonic()
        took = max(now - began, 0.0)
        kept = max(self._seconds - took, 0.0) * 0.5 ** (max(now - self._at, 0.0) / FORGET)
        self._seconds, self._at = took + kept, now
