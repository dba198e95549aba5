"""The one assembly of a receiver, for `voiceflow serve`, the factory of ASGI servers, and apps that mount it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog
from anyio import to_thread
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.asgi.gatekeeper import Gatekeeper, NamingProxy
from voiceflow_worker.core.base.background import BackgroundTasks, failing_here
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.base.identity import new_worker_id
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.core.retention import retained
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.notify.webhook import notifier_of, notifying
from voiceflow_worker.service.metrics import Figures, Scraped, of_hooks, of_process
from voiceflow_worker.service.uploads import delete_left_over
from voiceflow_worker.service.whole_queue import health
from voiceflow_worker.settings import Settings
from voiceflow_worker.webhooks.events import EventEndpoint
from voiceflow_worker.webhooks.menu_events import MenuEvents
from voiceflow_worker.webhooks.readiness import Readiness, present

if TYPE_CHECKING:
    from voiceflow_worker.api.app import HttpApi

WATCH_EVERY = 1.0
_log = structlog.get_logger("voiceflow.webhooks")


def check_receiver(settings: Settings, *, api: bool | None = None) -> None:
    """Raise SettingsError for what a receiver with these settings would refuse, before a store is opened."""
    notifier_of(settings)
    for name in ("webhook_secret", "ui_secret", "ui_operator_secret"):
        settings.secret_values(name)
    if settings.ui_operator_secret is not None and settings.ui_secret is None:
        raise SettingsError("the pages have a secret for operators, but none for readers: set VOICEFLOW_UI_SECRET too")
    NamingProxy.of(settings)
    if _has_api(settings, api=api):
        from voiceflow_worker.api.secrets import ApiSecrets

        ApiSecrets(settings)


def _has_api(settings: Settings, *, api: bool | None) -> bool:
    return (settings.api_secret or settings.api_secrets) is not None if api is None else api


class Receiver:
    """A whole receiver of an open store, as the settings say. Its policy must be that of the workers.

    `POST /webhooks/8x8` takes the events of 8x8, and answers key presses by `menus` and by the menus that every
    receiver has; `/healthz` says that it is alive, `/readyz` whether it can store events, and `/metrics` has its
    figures. With VOICEFLOW_UI_SECRET or VOICEFLOW_AUTH_HEADER, `/ui` is the web console. `/v1` is the HTTP API (`api`;
    None: if the settings have a secret of programs). The receiver sends outcomes to VOICEFLOW_NOTIFY_URL, and
    deletes what is over.

    `app` is what is served or mounted, while `running` lasts. Its server must not rewrite the address of the peer
    (uvicorn: `proxy_headers=False`). Raises SettingsError, and InvalidInputError for two menus of one name.
    """

    def __init__(
        self, settings: Settings, store: Store, *, menus: Sequence[Menu] = (), api: bool | None = None
    ) -> None:
        check_receiver(settings, api=api)
        policy = settings.policy()
        self.registry: CollectorRegistry = CollectorRegistry()
        self._settings = settings
        self._store = store
        answering = MenuEvents(store, *menus, policy=policy, registry=self.registry)
        self._heartbeats = Heartbeats(store, menus=answering.menu_names)
        self._readiness = Readiness(store)
        self._scraped = Scraped(store, policy)
        self._has_run = self._ends = False
        self.registry.register(Figures(partial(of_process, settings.state_dir)))
        gatekeeper = Gatekeeper(
            secrets=settings.secret_values("webhook_secret"),
            allow=settings.webhook_allow,
            trusted_proxies=settings.trusted_proxies,
        )
        progress, settler = CallProgress(store), Settler(store, policy)
        events = EventEndpoint(settler, gatekeeper, progress, answering, registry=self.registry)
        routes = [
            *events.routes,
            Route("/healthz", self._show_health),
            Route("/readyz", self._show_readiness),
            Route("/metrics", self._show_metrics),
        ]
        self.http_api: HttpApi | None = None
        """The HTTP API; None without it."""
        if _has_api(settings, api=api):
            # Imported here, because most receivers have no API.
            from voiceflow_worker.api.app import HttpApi

            self.http_api = HttpApi(store, settings, menus=menus, registry=self.registry)
            routes += [Route("/v1", self.http_api), Route("/v1/{rest:path}", self.http_api)]
        if settings.ui_secret is not None or settings.auth_header is not None:
            # Imported here, because most receivers have no pages, and need no templates.
            from voiceflow_worker.console.site import Pages

            pages = Pages(store, settings, menus=menus)
            routes += [Route("/", _lead_to_pages), Route("/ui", pages), Route("/ui/{rest:path}", pages)]
        self.app: Starlette = Starlette(routes=routes)
        """The app, without a lifespan: `running` takes its place, and a server runs that of the outermost app only."""

    async def _show_health(self, _request: Request) -> Response:
        return JSONResponse(health(failing_here()))

    async def _show_readiness(self, _request: Request) -> Response:
        why = "the receiver ends" if self._ends else await self._readiness.why_not()
        return JSONResponse({"status": "ok"} if why is None else {"error": why}, 200 if why is None else 503)

    async def _show_metrics(self, _request: Request) -> Response:
        return await self._scraped.answer(self.registry)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Do all that a receiver does beside its requests, while the block lasts. Raises RuntimeError the second time.

        An error of the block is raised as it came.
        """
        if self._has_run:
            raise RuntimeError("this receiver runs already, or has ended: make a Receiver of its own each time")
        self._has_run = True
        await to_thread.run_sync(delete_left_over)
        store, settings = self._store, self._settings
        failed: Exception | None = None
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(present(self._heartbeats, name=new_worker_id()))
            await stack.enter_async_context(retained(store, settings.policy()))
            notifier = notifier_of(settings)
            hooks = await stack.enter_async_context(notifying(notifier, settings, store, queue=None, tell=_log.info))
            if hooks is not None:
                self.registry.register(Figures(partial(of_hooks, hooks)))
            if self.http_api is not None:
                # A wrong file of policies is reported at once, not when it is needed.
                part, look = "the policies of escalations were not looked at", self.http_api.policies.current
                watching = BackgroundTasks(SystemClock()).repeated(part, look, every=WATCH_EVERY)
                await stack.enter_async_context(watching)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised below: each of these groups of tasks would wrap it
                failed = error
            finally:
                self.stop()
        if failed is not None:
            raise failed

    def stop(self) -> None:
        """End this receiver: it is not ready any more, and programs wait no longer for outcomes.

        To be called before a server waits for its last requests.
        """
        self._ends = True
        if self.http_api is not None:
            self.http_api.stop()


async def _lead_to_pages(_request: Request) -> Response:
    return Response(status_code=303, headers={"Location": "ui"})  # relative: a proxy may serve it below a path
