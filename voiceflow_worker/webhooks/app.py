"""The receiver as an ASGI app, to be served alone or mounted in another one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.core.heartbeat import EVERY
from voiceflow_worker.core.identity import new_worker_id
from voiceflow_worker.webhooks.gatekeeper import Gatekeeper, Network
from voiceflow_worker.webhooks.metrics import Metrics
from voiceflow_worker.webhooks.ports import AnswersEvents, SettlesSummaries, TellsPresence
from voiceflow_worker.webhooks.presence import present
from voiceflow_worker.webhooks.receiver import Receiver

PATH = "/webhooks/8x8"
LONGEST_BODY = 1_000_000


def webhook_app(
    settle: SettlesSummaries,
    *,
    secret: str | None,
    allow: Sequence[Network] = (),
    trusted_proxies: Sequence[Network] = (),
    heartbeats: TellsPresence | None = None,
    heartbeat_every: timedelta = EVERY,
    on_event: AnswersEvents | None = None,
    registry: CollectorRegistry | None = None,
    read_limit: timedelta = timedelta(seconds=10),
) -> Starlette:
    """An app with `POST /webhooks/8x8` for events of every type, `GET /healthz` and `GET /metrics`.

    `secret` is the whole Authorization value that was registered with the webhook, `allow` the networks that events may
    come from (empty: all), `trusted_proxies` those whose X-Forwarded-For counts; let nothing before this app rewrite
    the peer address (uvicorn: `proxy_headers=False`). /healthz and /metrics need neither.

    Answers: 200 taken (also repeated, unknown events and unknown sessions), 400 no JSON or no event, 401 wrong secret,
    403 wrong network, 408 the body took longer than `read_limit`, 413 a body over 1 MB, 503 the store is away: send it
    again. Session summaries go to `settle`; other known events to `on_event`, whose answer is sent back. Without one,
    a call action event (VCA) is answered with a hang-up, as nobody says what to do next.

    `heartbeats` are told, while the app runs, that a receiver listens. `registry` takes the metrics; a new one unless
    given. Raises SettingsError for an empty secret.
    """
    metrics = Metrics(CollectorRegistry() if registry is None else registry)
    receiver = Receiver(
        settle,
        gatekeeper=Gatekeeper(secret=secret, allow=allow, trusted_proxies=trusted_proxies),
        metrics=metrics,
        on_event=on_event,
        longest_body=LONGEST_BODY,
        read_limit=read_limit,
    )

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def tell_metrics(_request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        if heartbeats is None:
            yield
            return
        async with present(heartbeats, name=new_worker_id(), every=heartbeat_every):
            yield

    return Starlette(
        routes=[
            Route(PATH, receiver, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/metrics", tell_metrics, methods=["GET"]),
        ],
        lifespan=lifespan,
    )
