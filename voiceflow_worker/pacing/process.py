"""A ceiling for the calls per second of one process, over aiolimiter."""

from __future__ import annotations

import asyncio
import math

import anyio
from aiolimiter import AsyncLimiter

from voiceflow_worker.errors import SettingsError


class ProcessRate:
    """Lets `rate` calls per second pass in this process, and after a pause up to `burst` at once (a leaky bucket).

    In any span of t seconds at most `burst + rate * t` pass. It runs on asyncio only, and on one event loop. Raises
    SettingsError for a rate that is not a number above 0, or a burst below 1.
    """

    def __init__(self, rate: float, *, burst: int = 1) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise SettingsError(f"a rate of {rate} calls per second is not possible; give a number above 0")
        if burst < 1:
            raise SettingsError(f"a burst of {burst} lets nothing pass; give 1 or more")
        self._rate = rate
        self._burst = burst
        self._limiter = AsyncLimiter(burst, burst / rate)

    def __repr__(self) -> str:
        return f"ProcessRate({self._rate:g}, burst={self._burst})"

    async def acquire(self) -> None:
        """Return when one more call may leave. Raises SettingsError on trio."""
        if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
            raise SettingsError(
                "ProcessRate runs on asyncio only, as aiolimiter does; on trio, pace with Worker(rate=…), which takes"
                " its departure times from the store"
            )
        await self._limiter.acquire()
