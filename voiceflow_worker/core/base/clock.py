"""The clock of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import anyio

_BOOT_TIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux has it
_monotonic: Callable[[], float] = time.monotonic if _BOOT_TIME is None else partial(time.clock_gettime, _BOOT_TIME)


class SystemClock:
    """The clock of this machine, as a `Clock`: `now` reads the wall clock, `monotonic` the clock for durations."""

    __slots__ = ()

    def now(self) -> datetime:
        """The current time in UTC, with its zone."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps, and that counts the time in which the machine was suspended."""
        return _monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep for this many seconds. With 0 or less, only let other tasks run."""
        await anyio.sleep(max(seconds, 0.0))
