"""Steps that run later on the event loop's clock, and can be cancelled together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from voiceflow_worker.sandbox.calls.activity import Activity


class Timers:
    """The steps that wait for their time."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._waiting: set[asyncio.TimerHandle] = set()

    def after(self, seconds: float, step: Callable[[], None]) -> None:
        """Run `step` from the event loop after this many seconds; never before this returns."""

        def take() -> None:
            self._waiting.discard(handle)
            try:
                step()
            finally:
                self._activity.end()

        handle = asyncio.get_running_loop().call_later(seconds, take)
        self._waiting.add(handle)
        self._activity.begin()

    def clear(self) -> None:
        """Cancel all waiting steps."""
        for handle in self._waiting:
            handle.cancel()
            self._activity.end()
        self._waiting.clear()
