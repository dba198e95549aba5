"""The timers and running tasks of a sandbox, which can be awaited and cancelled together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Activity:
    """The timers and running tasks of a sandbox."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.TimerHandle] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()

    def after(self, seconds: float, step: Callable[[], None]) -> None:
        """Run `step` on the event loop after `seconds`, but never before this method has returned."""

        def take() -> None:
            try:
                step()
            finally:
                self._waiting.discard(handle)
                self._look()

        handle = asyncio.get_running_loop().call_later(seconds, take)
        self._waiting.add(handle)

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine in a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._look()

    def _look(self) -> None:
        if not self._waiting and not self._running:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until no timer waits and no task runs."""
        while self._waiting or self._running:
            self._quiet.clear()
            await self._quiet.wait()

    def clear(self) -> None:
        """Cancel all timers and tasks."""
        for task in self._running:
            task.cancel()
        for handle in self._waiting:
            handle.cancel()
        self._waiting.clear()
        self._look()

    async def aclose(self) -> None:
        """Cancel all timers and tasks, and wait until the tasks have ended."""
        self.clear()
        if self._running:
            await asyncio.wait(list(self._running))
