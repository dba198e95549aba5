"""A clock that leaps over what nobody waits for, and a sandbox that lives by it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import anyio

from voiceflow_worker import (
    Sandbox,
)


class LeapingClock:
    """The clock of this machine, ahead of it. It leaps."""

    def __init__(self, begin: datetime) -> None:
        self.ahead = begin - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead.total_seconds()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(seconds, 0.0))

    def leap(self, to: datetime) -> None:
        self.ahead += max(to - self.now(), timedelta())


class SandboxOfThen(Sandbox):
    """A sandbox with this clock."""

    clock: LeapingClock

    def _now(self) -> datetime:
        return self.clock.now()
