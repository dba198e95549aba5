"""The readiness check of /readyz, and the receiver's presence, which workers look at."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial

import anyio
import structlog

from voiceflow_worker.core.base.background import BackgroundTasks, Task
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.base.probe import store_probe
from voiceflow_worker.core.base.round_trips import RateLimitedLog
from voiceflow_worker.core.heartbeats import EVERY, Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreError

_log = structlog.get_logger("voiceflow.webhooks")

WITHIN = timedelta(seconds=1)


class Readiness:
    """The readiness of a store. Requests at the same time ask it one after the other."""

    def __init__(self, store: Store) -> None:
        self._probe = store_probe(store)
        self._asking = anyio.Lock()
        self._log = RateLimitedLog()

    async def why_not(self) -> str | None:
        """Return why events cannot be stored now, as a clause; None if they can be stored."""
        with anyio.move_on_after(WITHIN.total_seconds()):
            async with self._asking:
                try:
                    await self._probe()
                except StoreError as error:
                    if self._log.admit(str(error)) is not None:
                        _log.warning("the store cannot take events", error=str(error))
                    return error.in_public
                return None
        return f"the store did not answer within {WITHIN.total_seconds():g} s"


@asynccontextmanager
async def present(heartbeats: Heartbeats, *, name: str, every: timedelta = EVERY) -> AsyncGenerator[None]:
    """Send heartbeats of the receiver `name`, now and at every interval, to the end."""
    background, beat = BackgroundTasks(SystemClock()), partial(heartbeats.receiver, name)
    with suppress(StoreError):  # the next beat may be stored
        await beat()
    try:
        async with background.repeated(Task.HEARTBEAT, beat, every=every.total_seconds()):
            yield
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await heartbeats.receiver_left(name)
            except StoreError as error:
                _log.warning("the heartbeat of this receiver was not deleted; it expires", error=str(error))
