"""The clock of this machine, and how it differs from that of 8x8."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio

from voiceflow_worker.core.ports import Clock
from voiceflow_worker.model.text.wording import duration_in_words

_BOOT_TIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # Linux has it
_monotonic: Callable[[], float] = time.monotonic if _BOOT_TIME is None else partial(time.clock_gettime, _BOOT_TIME)


class SystemClock:
    """The clock of this machine, as a `Clock`: `now` reads the wall clock, `monotonic` the clock for durations."""

    __slots__ = ()

    def now(self) -> datetime:
        """Return the current time in UTC, with its zone."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps, and that counts the time in which the machine was suspended."""
        return _monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep for this many seconds. With 0 or less, only let other tasks run."""
        await anyio.sleep(max(seconds, 0.0))


SET_CLOCK = "set the clock (NTP: timedatectl set-ntp true)"
DATE_GRAIN = timedelta(seconds=1)
"""The precision of a Date header: whole seconds, rounded down (RFC 9110 §5.6.7)."""


def ahead_of_8x8(theirs: datetime, *, before: datetime, after: datetime) -> timedelta:
    """Return how far a clock is ahead of that of 8x8, or behind it if that is negative, by one request.

    `before` and `after` are the times of the clock around the request, and `theirs` is the time in the answer. The
    duration of the request and the rounding of the header do not count as a difference.
    """
    return max(before - theirs - DATE_GRAIN, timedelta()) + min(after - theirs, timedelta())


def clock_of_worker(ahead: timedelta) -> str:
    """Say how far the clock of a worker is off, in minutes if it is some: each call measures it again."""
    minutes = timedelta(minutes=round(ahead / timedelta(minutes=1)))
    off = off_in_words(minutes if abs(minutes) > timedelta(minutes=1) else ahead, of="8x8")
    return f"the clock of a worker is {off}"


def off_in_words(ahead: timedelta, *, of: str) -> str:
    """Such a difference as a clause: `4 min ahead of the clock of 8x8`."""
    return f"{duration_in_words(abs(ahead))} {'ahead of' if ahead > timedelta() else 'behind'} the clock of {of}"


CLOCKS_AGREE = timedelta(seconds=2)


def clock_ahead(clock: Clock) -> timedelta:
    """Return how far the clock of a store's server is ahead of the clock of this machine."""
    return clock.now() - datetime.now(UTC) if isinstance(clock, SystemClock) else timedelta()
