"""The system clock, which a store uses by default."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import anyio


class SystemClock:
    """The clock of this machine, as a `Clock`: `now` reads the wall clock, `monotonic` the clock for durations."""

    __slots__ = ()

    def now(self) -> datetime:
        """The current time in UTC, with its zone."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep for this many seconds. With 0 or less, only let other tasks run."""
        await anyio.sleep(max(seconds, 0.0))
