"""A thread for blocking work, and calls back to the event loop, for asyncio and trio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

Work = Callable[[], object]
Then = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class LoopCalls:
    """Ways to call a function on the event loop that was running when this was made."""

    soon: Callable[[Callable[[], None]], object]
    """For callers on the loop: runs after the tasks that are ready now."""
    from_thread: Callable[[Callable[[], None]], object]
    """For other threads. Raises `RuntimeError` once the loop is gone."""

    @classmethod
    def of_running_loop(cls) -> LoopCalls:
        """The running loop's. anyio's own way (`from_thread.run_sync`) makes the thread wait for the loop each time."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            import trio

            token = trio.lowlevel.current_trio_token()
            return cls(soon=token.run_sync_soon, from_thread=token.run_sync_soon)
        return cls(soon=loop.call_soon, from_thread=loop.call_soon_threadsafe)


class BlockingThread:
    """One thread that does one task after the other, and calls back on the loop after each.

    It is a daemon: a program that does not close its store can still end, and SQLite recovers from that.
    """

    def __init__(self, calls: LoopCalls, *, name: str) -> None:
        self._calls = calls
        self._tasks: SimpleQueue[tuple[Work, Then] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Work, then: Then) -> None:
        """Do `work` in the thread, then call `then` on the loop with what it raised, or None."""
        self._tasks.put((work, then))

    def end(self) -> None:
        """Let the thread end once it has done what it was given."""
        self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            work, then = task
            error: Exception | None = None
            try:
                work()
            except Exception as raised:  # noqa: BLE001 - it is handed to whoever waits
                error = raised
            with suppress(RuntimeError):  # the loop has ended, and with it all waiting tasks
                self._calls.from_thread(partial(then, error))
