"""The clock of the Redis server, which all workers share."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import anyio

from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.core.ports.outside import SystemClock
from voiceflow_worker.errors import StoreError, StoreUnavailableError

RESYNC_EVERY = 5.0
SAMPLES = 3


class ServerClock(SystemClock):
    """The clock of the server, kept as an offset to this machine's monotonic clock, and measured every few seconds.

    Of several samples, the sample with the shortest round trip counts: its error is at most half the round trip. A new
    offset replaces the old one if it is more exact, or if the old one is certainly wrong.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._offset = time.time() - time.monotonic()
        self._error = float("inf")

    def now(self) -> datetime:
        """The time of the server, in UTC."""
        return datetime.fromtimestamp(self._offset + time.monotonic(), UTC)

    async def synchronise(self) -> None:
        """Measure the offset. Raises StoreError."""
        best: tuple[float, float] | None = None
        for _ in range(SAMPLES):
            asked = time.monotonic()
            told = await self._link.run("clock")
            answered = time.monotonic()
            error = (answered - asked) / 2
            try:
                seconds, microseconds = told
                offset = int(seconds) + int(microseconds) / 1e6 - (asked + answered) / 2
            except (TypeError, ValueError) as odd:
                raise StoreUnavailableError("the Redis gave its time in an unknown form; is it a Redis?") from odd
            if best is None or error < best[0]:
                best = error, offset
        if best is not None and (best[0] <= self._error or abs(best[1] - self._offset) > best[0]):
            self._error, self._offset = best
        # Two clocks drift apart by up to about 50 ppm, so the error grows until the next measurement.
        self._error += RESYNC_EVERY * 50e-6

    async def keep(self) -> None:
        """Measure the offset every few seconds, forever. This also notices a server that does not answer."""
        while True:
            await anyio.sleep(RESYNC_EVERY)
            try:
                await self.synchronise()
            except StoreError:
                self._link.reopen()
