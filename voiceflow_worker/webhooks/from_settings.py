"""The receiver as an app factory for any ASGI server, configured by the settings.

granian --interface asgi --factory voiceflow_worker.webhooks.from_settings:app
uvicorn --factory voiceflow_worker.webhooks.from_settings:app --no-proxy-headers
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from voiceflow_worker.backends.waiting import StoreWait, opened_in_time
from voiceflow_worker.core.ports import Store
from voiceflow_worker.gateway.client import time_at_8x8
from voiceflow_worker.notify.webhook import HookMetrics, notifier_of, notifying
from voiceflow_worker.setting_kinds import text_of
from voiceflow_worker.settings import Settings, load_settings
from voiceflow_worker.webhooks.app import receiver_app
from voiceflow_worker.webhooks.ports import AnswersEvents

_log = structlog.get_logger("voiceflow.webhooks")


def app() -> Starlette:
    """The receiver of the store VOICEFLOW_STORE, with the secrets, networks and proxies of the settings.

    It also sends the outcomes of all queues to VOICEFLOW_NOTIFY_URL, as `voiceflow serve` does.

    Calling this function reads the settings. Each process of the server opens the store when it starts the app. Raises
    SettingsError.
    """
    settings = load_settings()
    notifier = notifier_of(settings)

    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncGenerator[None]:
        wait = StoreWait(settings.wait_for_store, _log.warning)
        async with opened_in_time(settings.store, wait=wait, writes=True) as store:
            registry = CollectorRegistry()
            receiver = receiver_of(settings, store, registry=registry)
            outer.router.routes[:] = receiver.routes
            async with (
                receiver.router.lifespan_context(receiver),
                notifying(notifier, settings, store, queue=None, tell=_log.info) as hooks,
            ):
                if hooks is not None:
                    registry.register(HookMetrics(hooks))
                yield

    return Starlette(lifespan=lifespan)


def receiver_of(
    settings: Settings,
    store: Store,
    *,
    on_event: AnswersEvents | None = None,
    registry: CollectorRegistry | None = None,
) -> Starlette:
    """The receiver of an open store, with the secrets, networks and proxies of the settings."""
    return receiver_app(
        store,
        secret=text_of(settings.webhook_secret),
        policy=settings.policy(),
        allow=settings.webhook_allow,
        trusted_proxies=settings.trusted_proxies,
        ui_secret=text_of(settings.ui_secret),
        ui_operator_secret=text_of(settings.ui_operator_secret),
        time_at_8x8=partial(time_at_8x8, settings),
        on_event=on_event,
        registry=registry,
    )
