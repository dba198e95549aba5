"""The records that a running receiver writes at intervals: heartbeats, and the history of rates for its pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import structlog

from voiceflow_worker.core.overview.heartbeat import EVERY, Heartbeats
from voiceflow_worker.core.overview.status import SAMPLED_EVERY, RateHistory
from voiceflow_worker.errors import StoreError

_log = structlog.get_logger("voiceflow.webhooks")


@asynccontextmanager
async def present(heartbeats: Heartbeats, *, name: str, every: timedelta = EVERY) -> AsyncGenerator[None]:
    """Send heartbeats of the receiver `name`, now and at every interval, until the block ends.

    `webhook_app` does this in its lifespan. But a server runs only the lifespan of the outermost app: an app that
    mounts `webhook_app` must use this context manager in its own lifespan.
    """

    async def beat() -> None:
        try:
            await heartbeats.receiver(name)
        except StoreError as error:
            _log.warning("a heartbeat of the receiver could not be stored", error=str(error))

    async def keep_beating() -> None:
        while True:
            await anyio.sleep(every.total_seconds())
            await beat()

    await beat()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_beating)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                try:
                    await heartbeats.receiver_left(name)
                except StoreError as error:
                    _log.warning("the heartbeat of this receiver was not deleted; it expires soon", error=str(error))


@asynccontextmanager
async def sampled(rates: RateHistory) -> AsyncGenerator[None]:
    """Store a sample of the rates at every interval, until the block ends."""

    async def keep_sampling() -> None:
        while True:
            try:
                await rates.sample()
            except StoreError as error:
                _log.warning("a sample of the rates was not stored; the rate curve has a gap", error=str(error))
            await anyio.sleep(SAMPLED_EVERY.total_seconds())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_sampling)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
