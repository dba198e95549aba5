"""Heartbeats of a running receiver."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import structlog

from voiceflow_worker.core.overview.heartbeat import EVERY
from voiceflow_worker.errors import StoreError
from voiceflow_worker.webhooks.ports import TellsPresence

_log = structlog.get_logger("voiceflow.webhooks")


@asynccontextmanager
async def present(heartbeats: TellsPresence, *, name: str, every: timedelta = EVERY) -> AsyncGenerator[None]:
    """Send heartbeats of the receiver `name`, at once and then at every interval, until the block ends.

    A store that is not available gets the next one. `webhook_app` does this in its lifespan. An app that mounts it,
    and whose server runs only the outer lifespan, wraps that lifespan in this.
    """
    await _beat(heartbeats, name)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_keep_beating, heartbeats, name, every)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await _leave(heartbeats, name)


async def _keep_beating(heartbeats: TellsPresence, name: str, every: timedelta) -> None:
    while True:
        await anyio.sleep(every.total_seconds())
        await _beat(heartbeats, name)


async def _beat(heartbeats: TellsPresence, name: str) -> None:
    try:
        await heartbeats.receiver(name)
    except StoreError as error:
        _log.warning("the store is away; the receiver's heartbeat waits", error=str(error))


async def _leave(heartbeats: TellsPresence, name: str) -> None:
    try:
        await heartbeats.receiver_left(name)
    except StoreError as error:
        _log.warning("the end of this receiver could not be stored", error=str(error))
