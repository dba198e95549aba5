"""Wake-ups for the tasks of this process that wait for changes of a queue."""

from __future__ import annotations

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
