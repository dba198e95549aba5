"""The clock of a store that is on a server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import anyio
import structlog

from voiceflow_worker.core.ports.outside import SystemClock
from voiceflow_worker.errors import StoreError

_log = structlog.get_logger("voiceflow.store")

RESYNC_EVERY = 5.0
SAMPLES = 3


class ServerClock(SystemClock):
    """The clock of the server, kept as an offset to this machine's clock of durations, and measured every few seconds.

    That clock counts the time in which the machine was suspended, so that the time is right at once afterwards.

    Of several samples, the sample with the shortest round trip counts: its error is at most half the round trip. A new
    offset replaces the old one if it is more exact, or if the old one is certainly wrong. `ask` asks the server for its
    time, in seconds since the epoch.
    """

    def __init__(self, ask: Callable[[], Awaitable[float]]) -> None:
        self._ask = ask
        self._offset = time.time() - self.monotonic()
        self._error = float("inf")

    def now(self) -> datetime:
        """The time of the server, in UTC."""
        return datetime.fromtimestamp(self._offset + self.monotonic(), UTC)

    async def synchronise(self) -> None:
        """Measure the offset. Raises StoreError."""
        best: tuple[float, float] | None = None
        for _ in range(SAMPLES):
            asked = self.monotonic()
            server_time = await self._ask()
            answered = self.monotonic()
            error = (answered - asked) / 2
            if best is None or error < best[0]:
                best = error, server_time - (asked + answered) / 2
        if best is not None and (best[0] <= self._error or abs(best[1] - self._offset) > best[0]):
            self._error, self._offset = best
        # Two clocks drift apart by up to about 50 ppm, so the error grows until the next measurement.
        self._error += RESYNC_EVERY * 50e-6

    async def keep(self, *, failed: Callable[[], object] | None = None) -> None:
        """Measure the offset every few seconds, forever; `failed` is called when the server does not give its time."""
        while True:
            await anyio.sleep(RESYNC_EVERY)
            try:
                await self.synchronise()
            except Exception as error:  # noqa: BLE001 - it is measured again
                if not isinstance(error, StoreError):
                    _log.exception("the time of the store's server could not be measured; it is measured again")
                if failed is not None:
                    failed()
