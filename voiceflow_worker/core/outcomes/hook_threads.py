"""Threads for handlers that are not async, limited in number even when handlers hang."""

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
    """Runs functions in threads, at most `most` at a time.

    A thread cannot be ended. One that hangs is left behind after its time limit and still counts, or each retry of each
    outcome would leave one more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._lock = threading.Lock()

    async def run(self, function: Callable[[Given], Got], given: Given) -> Got:
        """The result of the function. Raises what it raises, and TellAgainError while too many threads hang."""
        if self._running >= self._most:
            raise TellAgainError(f"all {self._most} threads of this hook still run: its handler hangs")
        # A limiter of its own, so that other threads, such as the store's, do not wait for a handler.
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
