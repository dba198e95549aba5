"""Settings from options, and the queue that they name, opened."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceflow_worker.core.queue import CallQueue
    from voiceflow_worker.settings import Settings


def settings_from(**options: object) -> Settings:
    """The settings, with options that are not None before all others, and the logs set up as they say."""
    from voiceflow_worker.cli.logs import log_to_stderr
    from voiceflow_worker.settings import load_settings

    settings = load_settings(**options)
    log_to_stderr(form=settings.log_format, level=settings.log_level)
    return settings


@asynccontextmanager
async def opened_queue(settings: Settings) -> AsyncGenerator[CallQueue]:
    """The queue of these settings, in its opened store. Raises StoreError."""
    from voiceflow_worker.backends.registry import open_store
    from voiceflow_worker.core.queue import CallQueue

    async with open_store(settings.store) as store:
        yield CallQueue(store, settings.queue, policy=settings.policy())
