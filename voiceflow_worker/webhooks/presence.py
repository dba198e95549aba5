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
    """Tell that the receiver `name` listens, at once and then `every` so often, until the block ends.

    A store that is away is told again later. `webhook_app` does this in its lifespan; an app that mounts it, whose
    server runs only its own lifespan, wraps its own in this.
    """
    await _tell(heartbeats, name)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_go_on_telling, heartbeats, name, every)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await _leave(heartbeats, name)


async def _go_on_telling(heartbeats: TellsPresence, name: str, every: timedelta) -> None:
    while True:
        await anyio.sleep(every.total_seconds())
        await _tell(heartbeats, name)


async def _tell(heartbeats: TellsPresence, name: str) -> None:
    try:
        await heartbeats.receiver(name)
    except StoreError as error:
        _log.warning("the store is away; the receiver's heartbeat waits", error=str(error))


async def _leave(heartbeats: TellsPresence, name: str) -> None:
    try:
        await heartbeats.receiver_left(name)
    except StoreError as error:
        _log.warning("the store did not hear that this receiver left", error=str(error))
