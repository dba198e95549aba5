"""What stores wait for: the next change of a queue, and the disk."""

from __future__ import annotations

import time

import anyio
from anyio.lowlevel import checkpoint

from voiceflow_worker.core.ports import Clock


class NextChange:
    """The next change of a queue, for which tasks can wait. Time limits go by a clock, which a test may set by hand."""

    __slots__ = ("_happened", "_waits")

    def __init__(self) -> None:
        self._happened = False
        self._waits: set[anyio.CancelScope] = set()

    def happen(self) -> None:
        """Wake all tasks that wait for this change."""
        self._happened = True
        for wait in self._waits:
            wait.cancel()

    async def wait(self, clock: Clock, *, within: float) -> None:
        """Wait for the change, but at most `within` seconds by `clock`."""
        if self._happened:
            await checkpoint()
            return
        # A sleep that is cut short wakes its task in one step. A task for the sleep, beside an event, took 0.2 ms more.
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                await clock.sleep(within)
            finally:
                self._waits.discard(scope)


class Wakeups:
    """The next changes of all queues. One is made when a task begins to wait, and is dropped when the change happens.

    Get the next change before you read the store, so that a change after the reading wakes you.
    """

    def __init__(self) -> None:
        self._next: dict[str, NextChange] = {}

    def next(self, queue: str) -> NextChange:
        """The next change of the queue."""
        return self._next.setdefault(queue, NextChange())

    def wake(self, queue: str) -> None:
        """Wake all tasks that wait for this queue."""
        if (change := self._next.pop(queue, None)) is not None:
            change.happen()

    def wake_all(self) -> None:
        """Wake all tasks that wait for any queue."""
        for queue in list(self._next):
            self.wake(queue)


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
