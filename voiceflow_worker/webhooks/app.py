"""The factory of the receiver, for servers of ASGI apps: `voiceflow_worker.webhooks.app:app`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from starlette.applications import Starlette

from voiceflow_worker.backends.registry import StoreWait, opened_in_time
from voiceflow_worker.core.tracing import mask_logs
from voiceflow_worker.settings import load_settings
from voiceflow_worker.webhooks.receiver import Receiver, check_receiver


def app() -> Starlette:
    """The receiver of the store VOICEFLOW_STORE, with all that the settings say: see `Receiver`.

    Calling this function reads the settings. Each process of the server opens the store when it starts the app. Raises
    SettingsError.
    """
    settings = load_settings()
    if settings.log_mask:
        mask_logs()
    check_receiver(settings)

    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncGenerator[None]:
        wait = StoreWait(settings.wait_for_store, structlog.get_logger("voiceflow.webhooks").warning)
        async with opened_in_time(settings.store, wait=wait, writes=True, settings=settings) as store:
            receiver = Receiver(settings, store)
            outer.router.routes[:] = receiver.app.routes
            async with receiver.running():
                yield

    return Starlette(lifespan=lifespan)
