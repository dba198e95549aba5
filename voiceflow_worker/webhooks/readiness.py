"""The readiness check of /readyz, and the receiver's presence, which workers look at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import structlog

from voiceflow_worker.core.base.background import BackgroundTasks, Task, beside
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.base.probe import Probe
from voiceflow_worker.core.base.round_trips import RateLimitedLog
from voiceflow_worker.core.heartbeats import EVERY, Heartbeats
from voiceflow_worker.errors import StoreError

_log = structlog.get_logger("voiceflow.webhooks")

WITHIN = timedelta(seconds=1)
FRESH = 1.0
"""Seconds for which a result is reused. /readyz needs no secret, so frequent requests must not load the store."""


class Readiness:
    """The readiness of a store. Requests at the same time share one probe."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._asking = anyio.Lock()
        self._log = RateLimitedLog()
        self._until = float("-inf")
        self._why: str | None = None

    async def why_not(self) -> str | None:
        """The reason why events cannot be stored now, as a clause; None if they can be stored."""
        if anyio.current_time() < self._until:
            return self._why
        seconds = WITHIN.total_seconds()
        why: str | None = f"the store did not answer within {seconds:g} s"
        with anyio.move_on_after(seconds):
            async with self._asking:
                if anyio.current_time() < self._until:
                    return self._why  # another request has probed meanwhile
                try:
                    await self._probe()
                    why = None
                except StoreError as error:
                    why = error.in_public
                    if self._log.admit(str(error)) is not None:
                        _log.warning("the store cannot take events", error=str(error))
        self._why, self._until = why, anyio.current_time() + FRESH
        return why


@asynccontextmanager
async def present(
    heartbeats: Heartbeats, *, name: str, failing: Callable[[], Mapping[str, str]], every: timedelta = EVERY
) -> AsyncGenerator[None]:
    """Send heartbeats of the receiver `name`, now and at every interval, to the end.

    `failing` says what fails beside the background tasks of the process.
    """
    background = BackgroundTasks(SystemClock())

    async def beat() -> None:
        await heartbeats.receiver(name, failing=failing())

    async def keep_beating() -> None:
        await anyio.sleep(every.total_seconds())
        await background.run_periodically(Task.HEARTBEAT, beat, every=every.total_seconds())

    try:
        await beat()
    except Exception as error:  # noqa: BLE001 - the next beat may be stored
        background.failed(Task.HEARTBEAT, error)
    try:
        async with beside(keep_beating):
            yield
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await heartbeats.receiver_left(name)
            except Exception as error:  # noqa: BLE001 - nothing depends on it
                _log.warning("the heartbeat of this receiver was not deleted; it expires", error=str(error))
