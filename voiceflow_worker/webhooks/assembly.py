"""The one assembly of a receiver, for `voiceflow serve`, the factory of ASGI servers, and apps that mount it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.background import BackgroundTasks
from voiceflow_worker.gateway.client import time_at_8x8
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.notify.webhook import notifier_of, notifying
from voiceflow_worker.service.escalations import advancing
from voiceflow_worker.service.metrics import EscalationMetrics, HookMetrics, ProcessMetrics
from voiceflow_worker.settings import Settings
from voiceflow_worker.webhooks.menu_events import MenuEvents
from voiceflow_worker.webhooks.serving import receiver_app

if TYPE_CHECKING:
    from voiceflow_worker.api.http_api import HttpApi

WATCH_EVERY = 1.0


def has_api(settings: Settings) -> bool:
    """Whether the settings have a secret of programs, which opens the HTTP API."""
    return settings.api_secret is not None or settings.api_secrets is not None


def check_receiver(settings: Settings, *, api: bool | None = None) -> None:
    """Raise SettingsError for what a receiver with these settings would refuse, before a store is opened."""
    notifier_of(settings)
    for name in ("webhook_secret", "ui_secret", "ui_operator_secret"):
        settings.live_secret(name)
    if has_api(settings) if api is None else api:
        from voiceflow_worker.api.secrets import ApiSecrets

        ApiSecrets(settings)


class Receiver:
    """A whole receiver of an open store, as the settings say.

    It takes the events of 8x8 and answers key presses by `menus` and by the menus that every receiver has; it has the
    the web console, and the HTTP API (`api`; None: if the settings have a secret of programs), and it carries on with
    escalations and sends outcomes to VOICEFLOW_NOTIFY_URL. `app` is what is served or mounted, while `running` lasts.
    `metrics` is False for an app that serves /metrics of the `registry` itself. `tell` gets sentences for the log.
    Raises SettingsError, and InvalidInputError for two menus of one name.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        menus: Sequence[Menu] = (),
        api: bool | None = None,
        registry: CollectorRegistry | None = None,
        metrics: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.registry: CollectorRegistry = CollectorRegistry() if registry is None else registry
        self._settings = settings
        self._store = store
        self._tell: Callable[[str], None] = structlog.get_logger("voiceflow.webhooks").info if tell is None else tell
        self._notifier = notifier_of(settings)
        policy = settings.policy()
        answering = MenuEvents(store, *menus, policy=policy, registry=self.registry)
        self.http_api: HttpApi | None = None
        """The HTTP API; None without it."""
        if has_api(settings) if api is None else api:
            # Imported here, because most receivers have no API.
            from voiceflow_worker.api.http_api import HttpApi
            from voiceflow_worker.api.secrets import ApiSecrets

            self.http_api = HttpApi(
                store, settings, secrets=ApiSecrets(settings), menus=answering.roots, registry=self.registry
            )
        self.registry.register(EscalationMetrics())
        self.registry.register(ProcessMetrics())
        self._inner = receiver_app(
            store,
            secret=settings.live_secret("webhook_secret"),
            policy=policy,
            allow=settings.webhook_allow,
            trusted_proxies=settings.trusted_proxies,
            ui_secret=settings.live_secret("ui_secret"),
            ui_operator_secret=settings.live_secret("ui_operator_secret"),
            time_at_8x8=partial(time_at_8x8, settings),
            settings=settings,
            on_event=answering,
            registry=self.registry,
            metrics=metrics,
            api=self.http_api,
        )
        self.app: Starlette = Starlette(routes=self._inner.routes)
        """The app, without a lifespan: `running` takes its place, and a server runs that of the outermost app only."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """All that a receiver does beside its requests, while the block lasts."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._inner.router.lifespan_context(self._inner))
            hooks = await stack.enter_async_context(
                notifying(self._notifier, self._settings, self._store, queue=None, tell=self._tell)
            )
            if hooks is not None:
                self.registry.register(HookMetrics(hooks))
            await stack.enter_async_context(advancing(self._store, policy=self._settings.policy()))
            group = await stack.enter_async_context(anyio.create_task_group())
            if self.http_api is not None:
                # A wrong file of policies is told at once, not when it is needed.
                part = "the policies of escalations were not looked at"
                look = partial(
                    BackgroundTasks(self._store.clock).repeat, part, self.http_api.policies.current, every=WATCH_EVERY
                )
                group.start_soon(look)
            try:
                yield
            finally:
                self.stop()
                group.cancel_scope.cancel()

    def stop(self) -> None:
        """Tell that this receiver ends: it is not ready any more, and programs wait no longer for outcomes.

        To be called before a server waits for its last requests.
        """
        self._inner.state.ends = True
        if self.http_api is not None:
            self.http_api.stop()
