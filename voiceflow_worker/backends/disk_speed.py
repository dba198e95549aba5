"""Whether a disk is quick enough for writes on the thread of the event loop."""

from __future__ import annotations

import time

QUICK = 0.002
"""A disk is quick while a write usually takes at most this many seconds.

In a measurement, another thread took 0.5 ms to begin; the disk took 0.15 ms to write one entry of a journal file, and
0.6 ms to write 40.
"""
SLOW_FOR = 30.0
"""Seconds for which entries are written in another thread after a disk was slow."""
_NEWEST = 1 / 8
"""The weight of the newest write in the usual time of a write. A single write of 16 ms makes a disk slow."""


class DiskSpeed:
    """Notes how long writes take."""

    def __init__(self) -> None:
        self._usual_time = 0.0
        self._slow_until = 0.0

    @property
    def is_quick(self) -> bool:
        """Whether the next write should be made on the thread of the event loop."""
        return time.monotonic() >= self._slow_until

    def note(self, *, began: float) -> None:
        """Note that a write that began at this time, on the monotonic clock, has just ended."""
        ended = time.monotonic()
        self._usual_time += (ended - began - self._usual_time) * _NEWEST
        if self._usual_time > QUICK:
            self._slow_until = ended + SLOW_FOR
