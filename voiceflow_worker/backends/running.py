"""What stores share while they are open: errors, work in the background, the server's clock, waiting for changes."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.errors import SettingsError, StoreError, StoreUnavailableError, StoreVersionError, VoiceflowError

_log = structlog.get_logger("voiceflow.store")

T = TypeVar("T")


class Home:
    """The process and the event loop in which a store was opened: its connections and locks belong to them."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._pid = os.getpid()
        self._loop = _running_loop()

    @property
    def is_here(self) -> bool:
        """True if this process has opened the store, and not the one that it was forked from."""
        return os.getpid() == self._pid

    def require(self) -> None:
        """Raise StoreUnavailableError in a process that was forked since, and on another event loop."""
        if not self.is_here:
            raise StoreUnavailableError(
                f"the store {self._shown} was opened before this process was forked, and a fork inherits neither its "
                "locks nor its connections. Open the store in the process that uses it.",
                passes=False,
            )
        if _running_loop() is not self._loop:
            raise StoreUnavailableError(
                f"the store {self._shown} was opened on another event loop. Open the store on the one that uses it.",
                passes=False,
            )


def _running_loop() -> object:
    """Return the event loop of this thread; None on trio, or where none runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


Work = Callable[[], object]
Then = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class LoopCalls:
    """Two functions that call a function on an event loop: one for callers on the loop, one for other threads."""

    soon: Callable[[Callable[[], object]], object]
    """Calls a function after the tasks that are ready now; for callers on the event loop."""
    from_thread: Callable[[Callable[[], object]], object]
    """Calls a function from another thread. Raises RuntimeError after the event loop has ended."""

    @classmethod
    def of_running_loop(cls) -> LoopCalls:
        """Return the two functions for the running event loop. Unlike anyio's `from_thread`, they return at once."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            import trio

            token = trio.lowlevel.current_trio_token()
            return cls(soon=token.run_sync_soon, from_thread=token.run_sync_soon)
        return cls(soon=loop.call_soon, from_thread=loop.call_soon_threadsafe)


class BlockingThread:
    """A thread that runs one task after another, and calls a function on the event loop after each.

    The thread is a daemon, so a program that does not close its store can still end.
    """

    def __init__(self, calls: LoopCalls, *, name: str) -> None:
        self._calls = calls
        self._begun = deque[tuple[Work, Then]]()
        self._tasks: SimpleQueue[tuple[Work, Then] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Work, then: Then) -> None:
        """Call `work` in the thread. Afterwards call `then` on the event loop with the error of `work`, or None."""
        self._tasks.put((work, then))

    def end(self) -> None:
        """End the thread after its remaining tasks, and those that were begun."""
        self._hand_over()
        self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            work, then = task
            error: Exception | None = None
            try:
                work()
            except Exception as raised:  # noqa: BLE001 - passed to the waiting callers
                error = raised
            with suppress(RuntimeError):  # the event loop has ended, and nobody waits any more
                self._calls.from_thread(partial(then, error))

    def begin(self, work: Work) -> Callable[[], Awaitable[None]]:
        """Begin to call `work` in the thread, and return a function that waits for its end, and raises its error.

        It begins after the tasks that are ready now, and those that they make ready: beside them, each system call of
        either thread would wait for Python's lock (GIL). It goes on if who waits is cancelled.
        """
        ended, errors = anyio.Event(), list[Exception]()

        def end(error: Exception | None) -> None:
            errors.extend(filter(None, [error]))
            ended.set()

        async def wait() -> None:
            await ended.wait()
            if errors:
                raise errors[0]

        self._begun.append((work, end))
        self._calls.soon(partial(self._calls.soon, self._hand_over))
        return wait

    def _hand_over(self) -> None:
        while self._begun:
            self.do(*self._begun.popleft())


AGAIN_AFTER = 1.0
"""Seconds until work in the background begins again that has failed."""


def met_running(error: VoiceflowError) -> VoiceflowError:
    """Return the error for what the check of a new connection has found while the store is open.

    A setting of the server that would have kept the store from opening is then a fault of the store like any other:
    its callers wait for StoreError, and keep what they know.
    """
    if not isinstance(error, SettingsError):
        return error
    changed = StoreUnavailableError(f"{error}. This was changed while the store was in use", passes=False)
    changed.__cause__ = error
    return changed


def check_schema(number: int, known: int, where: str, *, own: str) -> None:
    """Raise StoreVersionError unless the schema number of a store is `known`, that of the stores of this version.

    `where` names the store in the message, and `own` says how a store of this version finds another place.
    """
    if number != known:
        raise StoreVersionError(
            f"the store {where} has schema {number}, and this version of voiceflow-worker uses only schema {known}. "
            f"Nothing was changed. Use the version that made the store, or {own}."
        )


@asynccontextmanager
async def background() -> AsyncGenerator[TaskGroup]:
    """Yield a task group, which is cancelled at the end. An error of the block is raised as it is, not in a group."""
    raised: BaseException | None = None
    async with anyio.create_task_group() as group:
        try:
            yield group
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised = error
        group.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def kept(work: Callable[[], Awaitable[object]]) -> None:
    """Do work in the background that never ends, and begin it again after whatever it raises."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - what goes on in the background ends neither the store nor its callers
            _log.exception("work of a store in the background failed; it begins again")
        await anyio.sleep(AGAIN_AFTER)


RESYNC_EVERY = 10.0
SAMPLES = 3


class ServerClock(SystemClock):
    """The clock of the server, kept as an offset to this machine's clock of durations, and measured every few seconds.

    That clock counts the time in which the machine was suspended, so that the time is right at once afterwards.

    Of several samples, the sample with the shortest round trip counts: its error is at most half the round trip. A new
    offset replaces the old one if it is more exact, or if the old one is certainly wrong. `ask` asks the server for its
    time, in seconds since the epoch.
    """

    def __init__(self, ask: Callable[[], Awaitable[float]]) -> None:
        self._ask = ask
        self._offset = time.time() - self.monotonic()
        self._error = float("inf")

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._offset + self.monotonic(), UTC)

    async def synchronise(self) -> None:
        best: tuple[float, float] | None = None
        for _ in range(SAMPLES):
            asked = self.monotonic()
            server_time = await self._ask()
            answered = self.monotonic()
            error = (answered - asked) / 2
            if best is None or error < best[0]:
                best = error, server_time - (asked + answered) / 2
        if best is not None and (best[0] <= self._error or abs(best[1] - self._offset) > best[0]):
            self._error, self._offset = best
        # Two clocks drift apart by up to about 50 ppm, so the error grows until the next measurement.
        self._error += RESYNC_EVERY * 50e-6

    async def keep(self) -> None:
        while True:
            await anyio.sleep(RESYNC_EVERY)
            try:
                await self.synchronise()
            except Exception as error:  # noqa: BLE001 - it is measured again
                if not isinstance(error, StoreError):
                    _log.exception("the time of the store's server could not be measured; it is measured again")


class NextChange:
    """The next change of a queue, for which tasks can wait. Time limits go by a clock, which a test may set by hand."""

    __slots__ = ("_happened", "_waits")

    def __init__(self) -> None:
        self._happened = False
        self._waits: set[anyio.CancelScope] = set()

    def happen(self) -> None:
        self._happened = True
        for wait in self._waits:
            wait.cancel()

    async def wait(
        self, clock: Clock, *, within: float, sleep: Callable[[float], Awaitable[None]] | None = None
    ) -> None:
        """Wait for the change, but at most `within` seconds by `clock`, or as long as this `sleep` takes."""
        if self._happened:
            await checkpoint()
            return
        # A sleep that is cut short wakes its task in one step. A task for the sleep, beside an event, took 0.2 ms more.
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                await (sleep or clock.sleep)(within)
            finally:
                self._waits.discard(scope)


class Wakeups:
    """The next changes of all queues. One is made when a task begins to wait, and is dropped when the change happens.

    Get the next change before you read the store, so that a change after the reading wakes you.
    """

    def __init__(self) -> None:
        self._next: dict[str, NextChange] = {}

    def next(self, queue: str) -> NextChange:
        return self._next.setdefault(queue, NextChange())

    def wake(self, queue: str) -> None:
        if (change := self._next.pop(queue, None)) is not None:
            change.happen()

    def wake_all(self) -> None:
        """Wake all tasks that wait for any queue."""
        for queue in list(self._next):
            self.wake(queue)
