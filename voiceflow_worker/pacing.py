"""A limit on the calls per second of one process, built on aiolimiter."""

from __future__ import annotations

import asyncio
import math

import anyio
from aiolimiter import AsyncLimiter

from voiceflow_worker.errors import SettingsError


class ProcessRate:
    """A leaky bucket for the calls of this process: `rate` calls per second, and up to `burst` at once after a pause.

    At most `burst + rate * t` calls pass in any t seconds. It works on asyncio only, in one event loop. Raises
    SettingsError for a rate that is not a number above 0, or a burst below 1.
    """

    def __init__(self, rate: float, *, burst: int = 1) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise SettingsError(f"the rate is {rate} calls per second; give a number above 0")
        if burst < 1:
            raise SettingsError(f"the burst is {burst}, which lets no call pass; give 1 or more")
        self._rate = rate
        self._burst = burst
        self._limiter = AsyncLimiter(burst, burst / rate)

    def __repr__(self) -> str:
        return f"ProcessRate({self._rate:g}, burst={self._burst})"

    async def acquire(self) -> None:
        """Wait until one more call may leave. Raises SettingsError on trio."""
        if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
            raise SettingsError(
                "ProcessRate runs on asyncio only; on trio, use Worker(rate=…), which takes send slots from the store"
            )
        await self._limiter.acquire()
