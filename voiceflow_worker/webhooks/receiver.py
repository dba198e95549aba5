"""The one assembly of a receiver, for `voiceflow serve`, the factory of ASGI servers, and apps that mount it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import structlog
from anyio import to_thread
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
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
from voiceflow_worker.gateway.account import PATH
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.notify.webhook import notifier_of, notifying
from voiceflow_worker.service.metrics import Figures, Scraped, of_hooks, of_process
from voiceflow_worker.service.uploads import delete_left_over
from voiceflow_worker.service.whole_queue import health
from voiceflow_worker.settings import Settings
from voiceflow_worker.webhooks.events import EventEndpoint, Metrics
from voiceflow_worker.webhooks.menu_events import MenuEvents
from voiceflow_worker.webhooks.readiness import Readiness, present

if TYPE_CHECKING:
    from voiceflow_worker.api.app import HttpApi
    from voiceflow_worker.console.site import Pages

WATCH_EVERY = 1.0
_LATE = ("phonenumbers.timezone", "voiceflow_worker.model.country_windows", "traceback", "linecache")


def has_api(settings: Settings) -> bool:
    """Whether the settings have a secret of programs, which opens the HTTP API."""
    return settings.api_secret is not None or settings.api_secrets is not None


def check_receiver(settings: Settings, *, api: bool | None = None) -> None:
    """Raise SettingsError for what a receiver with these settings would refuse, before a store is opened."""
    notifier_of(settings)
    for name in ("webhook_secret", "ui_secret", "ui_operator_secret"):
        settings.secret_values(name)
    if settings.ui_operator_secret is not None and settings.ui_secret is None:
        raise SettingsError("the pages have a secret for operators, but none for readers: set VOICEFLOW_UI_SECRET too")
    NamingProxy.of(settings)
    if has_api(settings) if api is None else api:
        from voiceflow_worker.api.secrets import ApiSecrets

        ApiSecrets(settings)


class Receiver:
    """A whole receiver of an open store, as the settings say. Its policy must be that of the workers.

    `POST /webhooks/8x8` takes the events of 8x8, and answers key presses by `menus` and by the menus that every
    receiver has; `/healthz` says that it is alive, `/readyz` whether it can store events, and `/metrics` has its
    figures. With VOICEFLOW_UI_SECRET or VOICEFLOW_AUTH_HEADER, `/ui` is the web console. `/v1` is the HTTP API (`api`;
    None: if the settings have a secret of programs). The receiver sends outcomes to VOICEFLOW_NOTIFY_URL, and
    deletes what is over.

    `app` is what is served or mounted, while `running` lasts. Its server must not rewrite the address of the peer
    (uvicorn: `proxy_headers=False`). `metrics` is False for an app that serves /metrics of the `registry` itself, which
    has those of the receiver while it runs.
    `tell` gets sentences for the log. Raises SettingsError, and InvalidInputError for two menus of one name.
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
        check_receiver(settings, api=api)
        self.registry: CollectorRegistry = CollectorRegistry()
        self._shown_in = registry
        self._settings = settings
        self._store = store
        self._tell: Callable[[str], None] = structlog.get_logger("voiceflow.webhooks").info if tell is None else tell
        policy = settings.policy()
        answering = MenuEvents(store, *menus, policy=policy, registry=self.registry)
        self._heartbeats = Heartbeats(store, menus=answering.menu_names)
        self._readiness = Readiness(store)
        self._scraped = Scraped(store, policy)
        self._has_run = self._ends = False
        self.http_api: HttpApi | None = None
        """The HTTP API; None without it."""
        if has_api(settings) if api is None else api:
            # Imported here, because most receivers have no API.
            from voiceflow_worker.api.app import HttpApi

            self.http_api = HttpApi(store, settings, menus=menus, registry=self.registry)
        self._pages: Pages | None = None
        if settings.ui_secret is not None or settings.auth_header is not None:
            # Imported here, because most receivers have no pages, and need no templates.
            from voiceflow_worker.console.site import Pages

            self._pages = Pages(store, settings, menus=menus)
        self.registry.register(Figures(partial(of_process, settings.state_dir)))
        gatekeeper = Gatekeeper(
            secrets=settings.secret_values("webhook_secret"),
            allow=settings.webhook_allow,
            trusted_proxies=settings.trusted_proxies,
        )
        events = EventEndpoint(
            settle=Settler(store, policy),
            gatekeeper=gatekeeper,
            metrics=Metrics(self.registry),
            progress=CallProgress(store),
            on_event=answering,
        )
        routes = [
            Route("/", self._show_what_this_is, methods=["GET"]),
            *events.routes,
            Route("/healthz", self._show_health, methods=["GET"]),
            Route("/readyz", self._show_readiness, methods=["GET"]),
        ]
        if metrics:
            routes.append(Route("/metrics", self._show_metrics, methods=["GET"]))
        for path, endpoint in (("/ui", self._pages), ("/v1", self.http_api)):
            if endpoint is not None:
                routes += [Route(path, endpoint), Route(f"{path}/{{rest:path}}", endpoint)]
        self.app: Starlette = Starlette(routes=routes)
        """The app, without a lifespan: `running` takes its place, and a server runs that of the outermost app only."""

    async def _show_what_this_is(self, _request: Request) -> Response:
        if self._pages is not None:
            return Response(status_code=303, headers={"Location": "ui"})  # relative: a proxy may serve it below a path
        return PlainTextResponse(
            f"This is voiceflow-worker. It receives the events of calls on {PATH}; its web console is closed until "
            "VOICEFLOW_UI_SECRET or VOICEFLOW_AUTH_HEADER is set.\n"
        )

    async def _show_health(self, _request: Request) -> Response:
        return JSONResponse(health(failing_here()))

    async def _show_readiness(self, _request: Request) -> Response:
        why = "the receiver ends" if self._ends else await self._readiness.why_not()
        return JSONResponse({"status": "ok"} if why is None else {"error": why}, 200 if why is None else 503)

    async def _show_metrics(self, _request: Request) -> Response:
        return await self._scraped.answer(self.registry)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """All that a receiver does beside its requests, while the block lasts. Raises RuntimeError the second time.

        An error of the block is raised as it came.
        """
        if self._has_run:
            raise RuntimeError(
                "this receiver runs already, or has ended: a lifespan that may begin again makes a Receiver of its own "
                "each time, and removes its mount at the end"
            )
        self._has_run = True
        await to_thread.run_sync(_load_what_is_read_later)
        await to_thread.run_sync(delete_left_over)
        store, settings, policy = self._store, self._settings, self._settings.policy()
        failed: Exception | None = None
        async with AsyncExitStack() as stack:
            if self._shown_in is not None:
                self._shown_in.register(self.registry)
                stack.callback(self._shown_in.unregister, self.registry)
            await stack.enter_async_context(present(self._heartbeats, name=new_worker_id()))
            await stack.enter_async_context(retained(store, policy))
            hooks = await stack.enter_async_context(
                notifying(notifier_of(settings), settings, store, queue=None, tell=self._tell)
            )
            if hooks is not None:
                self.registry.register(Figures(partial(of_hooks, hooks)))
            if self.http_api is not None:
                # A wrong file of policies is told at once, not when it is needed.
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
        """Tell that this receiver ends: it is not ready any more, and programs wait no longer for outcomes.

        To be called before a server waits for its last requests.
        """
        self._ends = True
        if self.http_api is not None:
            self.http_api.stop()


def _load_what_is_read_later() -> None:
    """Load all numbering plans (0.2 s), and modules that would otherwise be imported when they are first needed.

    A process that has opened all the files that it may open can read none of them.
    """
    from phonenumbers.phonemetadata import PhoneMetadata

    PhoneMetadata.load_all()
    for name in _LATE:
        import_module(name)
