"""Opening a store at the start of a command, with retries; and waking those who wait for a change."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.registry import open_store
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.core.ports.store import Drop, Step, Unit
from voiceflow_worker.errors import StoreUnavailableError


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


PAUSE = 0.25
"""Seconds between two tries."""
_LOOK = 1.0
"""Seconds that a test write may take before the store counts as locked."""


class StoreWait:
    """A time limit for a command that waits for its store. If it must wait, `tell` is called once with the reason."""

    def __init__(self, limit: timedelta, tell: Callable[[str], object]) -> None:
        self._limit = limit
        self._until = time.monotonic() + limit.total_seconds()
        self._tell = tell
        self._has_begun = False

    @property
    def left(self) -> float:
        """The seconds left; less than 0 when the time is over."""
        return self._until - time.monotonic()

    def goes_on(self, error: StoreUnavailableError) -> bool:
        """Whether to try again after a pause: True if the error is temporary and there is time left."""
        if not error.passes or self.left <= 0:
            return False
        if not self._has_begun:
            self._has_begun = True
            self._tell(f"{str(error).removesuffix('.')}; trying again for up to {self._limit.total_seconds():g} s")
        return True


@asynccontextmanager
async def opened_in_time(url: str, *, wait: StoreWait, writes: bool, **options: Any) -> AsyncGenerator[Store]:
    """Open a store. If it is locked or not there yet, try again until the time of `wait` is over.

    With `writes`, the store must also accept a write, because a file that another process has locked can still be
    opened and read. `options` are passed to the backend. Raises the error of the last try.
    """
    async with AsyncExitStack() as opened:
        while True:
            async with AsyncExitStack() as attempt:
                try:
                    store = await attempt.enter_async_context(open_store(url, **options))
                    if writes:
                        await _require_writable(store, wait)
                except StoreUnavailableError as error:
                    if not wait.goes_on(error):
                        raise
                else:
                    opened.push_async_exit(attempt.pop_all())
                    yield store
                    return
            await anyio.sleep(PAUSE)


async def _require_writable(store: Store, wait: StoreWait) -> None:
    """Make a write that changes nothing. Raises StoreUnavailableError if the write takes too long."""
    # A Redis server may take long to confirm a write. A file that is not locked is written in milliseconds.
    limit = max(_LOOK, 0 if store.url.startswith(("sqlite:", "file:")) else wait.left)
    with anyio.move_on_after(limit):
        await store.write(Step(units=(Unit(drops=(Drop("probe", "", None),)),)), now=store.clock.now())
        return
    raise StoreUnavailableError(
        f"the store {store.url} is locked: another process is writing to it, or is frozen while writing; find that "
        "process with lsof"
    )
