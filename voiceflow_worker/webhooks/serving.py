"""The receiver as an ASGI app, served alone, mounted in another app, or made from the settings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from voiceflow_worker.asgi import time_limits
from voiceflow_worker.asgi.gatekeeper import Gatekeeper, Network
from voiceflow_worker.core.heartbeats import EVERY, Heartbeats, RateHistory
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.background import failing_here, health
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.ports.probe import Probe, store_probe
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.core.retention import retained
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.gateway.account import PATH
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.text.secret_text import SecretSource
from voiceflow_worker.service.metrics import STORE_UP, STORE_WITHIN
from voiceflow_worker.service.uploads import delete_left_over
from voiceflow_worker.settings import Settings
from voiceflow_worker.webhooks.events import EventEndpoint
from voiceflow_worker.webhooks.menu_events import MenuEvents
from voiceflow_worker.webhooks.readiness import Readiness, present, sampled
from voiceflow_worker.webhooks.reading import AnswersEvents, Metrics, RequestReader, SettlesSummaries

if TYPE_CHECKING:
    from voiceflow_worker.api.http_api import HttpApi
    from voiceflow_worker.console.site import Pages

_LATE = ("phonenumbers.timezone", "voiceflow_worker.model.country_windows", "traceback", "linecache")


def load_what_is_read_later() -> None:
    """Load all numbering plans (0.2 s), and modules that would otherwise be imported when they are first needed."""
    from phonenumbers.phonemetadata import PhoneMetadata

    PhoneMetadata.load_all()
    for name in _LATE:
        import_module(name)


LONGEST_BODY = 1_000_000


def receiver_app(
    store: Store,
    *,
    secret: SecretSource | None,
    policy: CallPolicy | None = None,
    allow: Sequence[Network] = (),
    trusted_proxies: Sequence[Network] = (),
    on_event: AnswersEvents | None = None,
    registry: CollectorRegistry | None = None,
    metrics: bool = True,
    ui_secret: SecretSource | None = None,
    ui_operator_secret: SecretSource | None = None,
    time_at_8x8: Callable[[], Awaitable[datetime | None]] | None = None,
    settings: Settings | None = None,
    api: HttpApi | None = None,
) -> Starlette:
    """The receiver of one store: `webhook_app` with all the parts that use the store.

    It settles summaries (VSS), and stores other events of calls (VCS, VRU) and events that it could not understand.
    It also checks the store for /readyz, deletes what is over, and sends heartbeats to the workers. (An app that
    mounts the receiver must send the heartbeats itself, by the context manager `present`.) Without `on_event`, key
    presses go to the menus that every receiver has, so that escalations can be acknowledged. `policy` must be the
    workers' policy. With `ui_secret`, people who know this secret can see the calls under /ui; people who know
    `ui_operator_secret` can also act there. `time_at_8x8` asks 8x8 for the time. By this time (default: the store's
    clock), the pages decide whether 8x8 can still place a call in doubt. The `settings` complete the campaigns that
    are begun on the pages. `api` serves /v1, with a secret of its own. Raises SettingsError for an empty secret.
    """
    policy = CallPolicy() if policy is None else policy
    registry = CollectorRegistry() if registry is None else registry
    if on_event is None:
        on_event = MenuEvents(store, policy=policy, registry=registry)
    pages: Pages | None = None
    if ui_operator_secret is not None and ui_secret is None:
        raise SettingsError("the pages have a secret for operators, but none for readers: set VOICEFLOW_UI_SECRET too")
    if ui_secret is not None:
        # Imported here, because most receivers have no pages, and need no templates.
        from voiceflow_worker.console.site import Pages

        pages = Pages(
            store,
            secret=ui_secret,
            operator_secret=ui_operator_secret,
            policy=policy,
            time_at_8x8=time_at_8x8,
            menus=getattr(on_event, "roots", ()),
            settings=settings,
            sender=Gatekeeper(secret=None, trusted_proxies=trusted_proxies).sender_of,
        )
    return webhook_app(
        Settler(store, policy),
        secret=secret,
        allow=allow,
        trusted_proxies=trusted_proxies,
        heartbeats=Heartbeats(store, menus=getattr(on_event, "menu_names", ())),
        on_event=on_event,
        progress=CallProgress(store, recordings_for=policy.retention),
        probe=store_probe(store),
        registry=registry,
        metrics=metrics,
        pages=pages,
        api=api,
        rates=RateHistory(store) if pages is not None else None,
        counting=pages.large.running if pages is not None else None,
        beside=partial(retained, store, policy),
    )


def webhook_app(
    settle: SettlesSummaries,
    *,
    secret: SecretSource | None,
    allow: Sequence[Network] = (),
    trusted_proxies: Sequence[Network] = (),
    heartbeats: Heartbeats | None = None,
    heartbeat_every: timedelta = EVERY,
    on_event: AnswersEvents | None = None,
    progress: CallProgress | None = None,
    probe: Probe | None = None,
    registry: CollectorRegistry | None = None,
    metrics: bool = True,
    pages: ASGIApp | None = None,
    api: HttpApi | None = None,
    rates: RateHistory | None = None,
    counting: Callable[[], AbstractAsyncContextManager[None]] | None = None,
    beside: Callable[[], AbstractAsyncContextManager[None]] | None = None,
    read_limit: timedelta = time_limits.BODY,
    store_limit: timedelta = time_limits.EVENT,
    event_limit: timedelta = time_limits.KEY_PRESS,
) -> Starlette:
    """An app with `POST /webhooks/8x8` for events of every type, `GET /healthz`, `GET /readyz` and `GET /metrics`.

    An event must have the Authorization value `secret`, which was registered with the webhook, and come from the
    networks `allow` (empty: all). X-Forwarded-For counts only from `trusted_proxies`, so the server must not rewrite
    the peer address (uvicorn: `proxy_headers=False`). The other paths check neither secret nor network. The path of
    events may end in a slash.

    The answer to an accepted event is 200. Repeated events, and events of an unknown type or session, are accepted too.
    Other answers: 400 for a body that is not JSON or not an event, 401 for a wrong secret, 403 for a wrong network, 408
    if the body took longer than `read_limit`, 413 for a body over 1 MB, 415 for an encoding other than gzip and
    deflate, 500 if the receiver itself failed, and 503, "send it again", if the store cannot be reached or took longer
    than `store_limit`.

    Session summaries go to `settle`, states and recordings to `progress`. All known events except summaries also go to
    `on_event`, whose result is the answer. For a call action event (VCA), `event_limit` is the time limit of
    `on_event`; without `on_event`, the answer ends the call. An event that could not be understood is logged with the
    first 2 KB of its body, and counted.

    `heartbeats` records that a receiver is running. `probe` checks the store for /readyz. The metrics go to `registry`,
    by default a new one; `metrics` is False for an app that serves /metrics itself. `pages` serves /ui and everything
    below it, and `api` everything below /v1, each with its own sign-in; requests to `api` give way to events. For the
    pages, `rates` keeps the history of the charts, and `counting` runs beside the app and counts large batches; so does
    `beside`, for the store. Raises SettingsError for an empty secret.
    """
    counted = Metrics(CollectorRegistry() if registry is None else registry)
    gatekeeper = Gatekeeper(secret=secret, allow=allow, trusted_proxies=trusted_proxies)
    events = EventEndpoint(
        settle=settle,
        reader=RequestReader(gatekeeper, longest_body=LONGEST_BODY, read_limit=read_limit),
        metrics=counted,
        progress=progress,
        on_event=on_event,
        store_limit=store_limit,
        event_limit=event_limit,
        first=nullcontext if api is None else api.desk.way.taken,
    )
    readiness = Readiness(probe)

    async def healthz(_request: Request) -> Response:
        return JSONResponse(health(failing_here()))

    async def readyz(_request: Request) -> Response:
        why = "the receiver ends" if app.state.ends else await readiness.why_not()
        return JSONResponse({"status": "ok"} if why is None else {"error": why}, 200 if why is None else 503)

    store_up = None if probe is None else STORE_UP.on(counted.registry)

    async def show_metrics(_request: Request) -> Response:
        if store_up is not None:
            is_up = False
            with anyio.move_on_after(STORE_WITHIN):
                is_up = await readiness.why_not() is None
            store_up.set(is_up)
        return Response(generate_latest(counted.registry), media_type=CONTENT_TYPE_LATEST)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        await to_thread.run_sync(delete_left_over)
        async with AsyncExitStack() as running:
            if heartbeats is not None:
                await running.enter_async_context(present(heartbeats, name=new_worker_id(), every=heartbeat_every))
            if rates is not None:
                await running.enter_async_context(sampled(rates))
            for each in filter(None, (counting, beside)):
                await running.enter_async_context(each())
            yield

    routes = [
        # Both spellings, because a redirect would lead 8x8 to http:// behind a proxy, and may not be followed.
        *(Route(path, events, methods=["POST"]) for path in (PATH, PATH + "/")),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
    ]
    if metrics:
        routes.append(Route("/metrics", show_metrics, methods=["GET"]))
    if pages is not None:
        routes += [Route("/ui", pages), Route("/ui/{rest:path}", pages)]
    if api is not None:
        routes += [Route("/v1", api), Route("/v1/{rest:path}", api)]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.ends = False
    return app
