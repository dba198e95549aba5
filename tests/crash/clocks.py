"""A clock that jumps, as an administrator or a time server would make it."""

from __future__ import annotations

from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Clock
from voiceflow_worker.core.ports.clock import SystemClock


class JumpingClock:
    """This machine's clock until `jump`; its monotonic part never follows."""

    def __init__(self) -> None:
        self._clock: Clock = SystemClock()
        self._off = timedelta()

    def jump(self, by: float) -> None:
        """Set the wall clock forward by so many seconds, or back."""
        self._off += timedelta(seconds=by)

    def now(self) -> datetime:
        return self._clock.now() + self._off

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
