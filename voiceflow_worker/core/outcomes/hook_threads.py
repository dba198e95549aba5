"""The threads of handlers that are no coroutines: so many at most, also of those that hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from voiceflow_worker.errors import TellAgainError

Given = TypeVar("Given")
Got = TypeVar("Got")


class HookThreads:
    """Runs functions in threads, while fewer than `most` of them run.

    A thread cannot be ended. One that hangs is left behind when its time is over, and still counts: or each try of each
    outcome would leave one more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._lock = threading.Lock()

    async def run(self, function: Callable[[Given], Got], given: Given) -> Got:
        """What the function gives. Raises what it raises, and TellAgainError while too many hang."""
        if self._running >= self._most:
            raise TellAgainError(f"all {self._most} threads of this hook still run: its handler hangs")
        # A limiter of its own: the others' threads, the store's among them, are not to wait for a handler.
        return await anyio.to_thread.run_sync(
            self._counted, function, given, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
        )

    def _counted(self, function: Callable[[Given], Got], given: Given) -> Got:
        with self._lock:
            self._running += 1
        try:
            return function(given)
        finally:
            with self._lock:
                self._running -= 1
