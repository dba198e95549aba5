"""The receiver as an ASGI app, to be served alone or mounted in another app."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from voiceflow_worker.core.events.progress import CallProgress
from voiceflow_worker.core.overview.heartbeat import EVERY, Heartbeats
from voiceflow_worker.core.overview.rate_history import RateHistory
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.webhooks.gatekeeper import Gatekeeper, Network
from voiceflow_worker.webhooks.kept_events import KeptEvents
from voiceflow_worker.webhooks.metrics import Metrics
from voiceflow_worker.webhooks.ports import AnswersEvents, SettlesSummaries
from voiceflow_worker.webhooks.presence import present, sampled
from voiceflow_worker.webhooks.readiness import Probe, Readiness, store_probe
from voiceflow_worker.webhooks.reading import RequestReader
from voiceflow_worker.webhooks.receiver import Receiver

PATH = "/webhooks/8x8"
LONGEST_BODY = 1_000_000
STORE_LIMIT = timedelta(seconds=4)
EVENT_LIMIT = timedelta(seconds=10)
READ_LIMIT = timedelta(seconds=10)


def receiver_app(
    store: Store,
    *,
    secret: str | None,
    policy: CallPolicy | None = None,
    allow: Sequence[Network] = (),
    trusted_proxies: Sequence[Network] = (),
    on_event: AnswersEvents | None = None,
    registry: CollectorRegistry | None = None,
    metrics: bool = True,
    ui_secret: str | None = None,
    ui_operator_secret: str | None = None,
    time_at_8x8: Callable[[], Awaitable[datetime | None]] | None = None,
) -> Starlette:
    """The whole receiver of one store: `webhook_app` with everything that the store can do for it.

    It settles summaries (VSS), stores other events of calls (VCS, VRU) and events that it could not understand,
    looks at the store for /readyz, and sends heartbeats to workers, which an app that mounts it does with
    `present`. `policy` must be that of the workers. With `ui_secret` it also shows calls to people who know it, under
    /ui; those who know `ui_operator_secret` may act there. `time_at_8x8` asks 8x8 for its clock, by which they may say
    that a call in doubt was not placed; by default it is that of the store. Raises SettingsError for an empty secret.
    """
    policy = CallPolicy() if policy is None else policy
    pages: ASGIApp | None = None
    if ui_operator_secret is not None and ui_secret is None:
        raise SettingsError("the pages have a secret for operators and none for readers: set VOICEFLOW_UI_SECRET too")
    if ui_secret is not None:
        # Loaded here: most receivers draw no pages, and need no templates.
        from voiceflow_worker.webhooks.pages.site import Pages

        pages = Pages(
            store,
            secret=ui_secret,
            operator_secret=ui_operator_secret,
            policy=policy,
            time_at_8x8=time_at_8x8,
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
        kept=KeptEvents(store),
        probe=store_probe(store),
        registry=registry,
        metrics=metrics,
        pages=pages,
        rates=RateHistory(store) if pages is not None else None,
    )


def webhook_app(
    settle: SettlesSummaries,
    *,
    secret: str | None,
    allow: Sequence[Network] = (),
    trusted_proxies: Sequence[Network] = (),
    heartbeats: Heartbeats | None = None,
    heartbeat_every: timedelta = EVERY,
    on_event: AnswersEvents | None = None,
    progress: CallProgress | None = None,
    kept: KeptEvents | None = None,
    probe: Probe | None = None,
    registry: CollectorRegistry | None = None,
    metrics: bool = True,
    pages: ASGIApp | None = None,
    rates: RateHistory | None = None,
    read_limit: timedelta = READ_LIMIT,
    store_limit: timedelta = STORE_LIMIT,
    event_limit: timedelta = EVENT_LIMIT,
) -> Starlette:
    """An app with `POST /webhooks/8x8` for events of every type, `GET /healthz`, `GET /readyz` and `GET /metrics`.

    `secret` is the whole Authorization value that was registered with the webhook, `allow` the networks that events may
    come from (empty: all), `trusted_proxies` those whose X-Forwarded-For counts; let nothing before this app rewrite
    the peer address (uvicorn: `proxy_headers=False`). The other paths need neither.

    Answers: 200 taken (also repeated, unknown events and unknown sessions), 400 no JSON or no event, 401 wrong secret,
    403 wrong network, 408 the body took longer than `read_limit`, 413 a body over 1 MB, 503 the store is away, or took
    longer than `store_limit`: send it again. Session summaries go to `settle`, states and recordings to `progress`; all
    known events but summaries then to `on_event`, whose answer is sent back: it has `event_limit` for a call action
    event (VCA), and else what is left of `store_limit`. Without one, a call action event is answered with a hang-up, as
    nobody says what to do next. What could not be understood goes to `kept` once it was answered.

    `heartbeats` records that a receiver is running. `probe` asks the store for /readyz, which
    without one is always ready. `registry` takes the metrics, a new one unless given; without `metrics`, /metrics is
    absent, for an app that shows a registry of its own. `pages` answers /ui and what lies below it, and judges by
    itself who may look, and `rates` keeps the history that they draw. Raises SettingsError for an empty secret.
    """
    counted = Metrics(CollectorRegistry() if registry is None else registry)
    gatekeeper = Gatekeeper(secret=secret, allow=allow, trusted_proxies=trusted_proxies)
    receiver = Receiver(
        settle=settle,
        reader=RequestReader(gatekeeper, longest_body=LONGEST_BODY, read_limit=read_limit),
        metrics=counted,
        progress=progress,
        kept=kept,
        on_event=on_event,
        store_limit=store_limit,
        event_limit=event_limit,
    )
    readiness = Readiness(probe)

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        why = await readiness.why_not()
        if why is None:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"error": why}, status_code=503)

    async def tell_metrics(_request: Request) -> Response:
        return Response(generate_latest(counted.registry), media_type=CONTENT_TYPE_LATEST)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with AsyncExitStack() as running:
            if heartbeats is not None:
                await running.enter_async_context(present(heartbeats, name=new_worker_id(), every=heartbeat_every))
            if rates is not None:
                await running.enter_async_context(sampled(rates))
            yield

    routes = [
        Route(PATH, receiver, methods=["POST"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
    ]
    if metrics:
        routes.append(Route("/metrics", tell_metrics, methods=["GET"]))
    if pages is not None:
        routes += [Route("/ui", pages), Route("/ui/{rest:path}", pages)]
    return Starlette(routes=routes, lifespan=lifespan)
