"""The factory of the receiver, for servers of ASGI apps: `voiceflow_worker.webhooks.app:app`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from voiceflow_worker.backends.registry import opened_in_time
from voiceflow_worker.core.logs import mask_logs
from voiceflow_worker.settings import load_settings
from voiceflow_worker.webhooks.receiver import Receiver, check_receiver

_log = structlog.get_logger("voiceflow.webhooks")
_NOT_STARTED = (
    "the receiver has not started: this server sends no lifespan events (ASGI), as daphne does not; run `voiceflow "
    "serve`, or a server that does, such as uvicorn or granian"
)


def app() -> Starlette:
    """Make the receiver of the store VOICEFLOW_STORE, with all that the settings say: see `Receiver`.

    Calling this function reads the settings. Each process of the server opens the store when it starts the app. Raises
    SettingsError.
    """
    settings = load_settings()
    if settings.log_mask:
        mask_logs()
    check_receiver(settings)

    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncGenerator[None]:
        within, report = settings.wait_for_store, _log.warning
        opened = opened_in_time(settings.store, within=within, report=report, writes=True, settings=settings)
        async with opened as store:
            receiver = Receiver(settings, store)
            outer.router.routes[:] = receiver.app.routes
            async with receiver.running():
                yield

    return Starlette(lifespan=lifespan, routes=[Mount("/", _not_started)])


async def _not_started(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what comes before the lifespan has opened the store, or without one."""
    _log.error("a request cannot be taken", why=_NOT_STARTED)
    await JSONResponse({"error": _NOT_STARTED}, 503)(scope, receive, send)
