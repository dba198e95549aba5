"""A clock for tests, which only a test can advance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
from anyio.lowlevel import checkpoint

_START = datetime(2026, 1, 5, 12, tzinfo=UTC)


class ManualClock:
    """A `Clock` for tests. Time passes only by `advance`, which wakes tasks when their sleep is over.

    `jump` sets only the wall clock, as an administrator or a time server would. The monotonic clock stays the same.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._now = start
        self._monotonic = 0.0
        self._sleepers: list[tuple[float, anyio.Event]] = []

    @property
    def sleepers(self) -> int:
        """The number of tasks that are asleep."""
        return len(self._sleepers)

    @property
    def next_wake(self) -> timedelta | None:
        """The time until the first task wakes up; None if no task is asleep."""
        if not self._sleepers:
            return None
        return timedelta(seconds=max(min(until for until, _ in self._sleepers) - self._monotonic, 0.0))

    def now(self) -> datetime:
        """The current time, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock has advanced by `seconds`. With zero or less, only let other tasks run."""
        if seconds <= 0:
            await checkpoint()
            return
        sleeper = (self._monotonic + seconds, anyio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, by: timedelta) -> None:
        """Advance both clocks, and wake the tasks whose sleep is over."""
        self._now += by
        self._monotonic += by.total_seconds()
        for until, event in self._sleepers:
            if until <= self._monotonic:
                event.set()

    def jump(self, by: timedelta) -> None:
        """Set the wall clock forward, or back with a negative step."""
        self._now += by
