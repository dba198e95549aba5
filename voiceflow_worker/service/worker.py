"""A worker as the settings say, and its metrics over HTTP."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict

import anyio
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from voiceflow_worker.backends.health import Figure
from voiceflow_worker.backends.registry import health_of
from voiceflow_worker.backends.witness import journal_files
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.overview.status import QueueStatus
from voiceflow_worker.core.ports import Store, Voice
from voiceflow_worker.core.ports.parts import failing_here, health
from voiceflow_worker.core.ports.reading import limits_of
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.core.worker import Worker, WorkerOptions
from voiceflow_worker.errors import StoreError
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.settings import Settings


async def with_limits_of_queue(settings: Settings, store: Store, *, but: Collection[str] = ()) -> Settings:
    """The settings, with the limits of their queue in place of their own, `but` for some.

    A worker that sends for a command or a task, and then ends, so leaves the limits as they are. Raises StoreError.
    """
    limits = await limits_of(store, settings.queue)
    if limits is None or limits.are_unreadable:
        return settings
    return settings.model_copy(update={name: each for name, each in asdict(limits).items() if name not in but})


def worker_of(
    settings: Settings,
    store: Store,
    voice: VoiceClient,
    *,
    batch_id: str | None = None,
    sends_by: Voice | None = None,
    keeps_journal: bool = True,
) -> Worker:
    """A worker with these settings, for all batches or for one. The worker searches 8x8's log for calls in doubt.

    It sends by `voice`, or by `sends_by`. It keeps journal files as the settings say, or none.
    """
    return Worker(
        store,
        sends_by or voice,
        queue=settings.queue,
        rate=settings.rate,
        concurrency=settings.concurrency,
        options=WorkerOptions(
            burst=settings.burst,
            max_active=settings.max_active,
            reserve=settings.reserve,
            lease=settings.lease,
            shutdown_grace=settings.shutdown_grace,
            batch_id=batch_id,
            policy=settings.policy(),
        ),
        call_log=voice,
        witness=journal_files(settings) if keeps_journal else None,
    )


def metrics_app(calls: CallQueue, more: Collector | None = None) -> Starlette:
    """An app that serves the metrics of the queue, its store and the collector `more` at `GET /metrics`: Prometheus.

    The app answers 503 while the store cannot be reached. `GET /healthz` answers 200 as long as the process works, and
    names the background parts of the queue's workers that fail.
    """

    async def metrics(_request: Request) -> Response:
        try:
            found = await calls.status()
            figures = await health_of(calls.store.url, calls.store).figures()
        except StoreError as error:
            return PlainTextResponse(f"the store cannot be reached: {error}\n", status_code=503)
        return Response(metrics_text(found, figures, more), media_type=CONTENT_TYPE_LATEST)

    async def healthz(_request: Request) -> Response:
        failing = failing_here()
        with anyio.move_on_after(1), suppress(StoreError):  # workers may be other processes
            failing |= await Heartbeats(calls.store).failing(calls.name)
        return JSONResponse(health(failing))

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"]), Route("/healthz", healthz, methods=["GET"])])


def metrics_text(found: QueueStatus, figures: Iterable[Figure] = (), more: Collector | None = None) -> bytes:
    """The metrics of a queue, of its store and of the collector `more`, in the text format of Prometheus."""
    registry = CollectorRegistry()
    if more is not None:
        registry.register(more)

    def gauge(name: str, meaning: str, value: float) -> None:
        Gauge(f"voiceflow_queue_{name}", meaning, ["queue"], registry=registry).labels(found.queue).set(value)

    jobs = Gauge("voiceflow_queue_jobs", "Calls, by their state.", ["queue", "state"], registry=registry)
    for state, count in found.states.items():
        jobs.labels(found.queue, state.value).set(count)
    gauge("due_jobs", "Calls that could be sent now.", found.due)
    gauge("oldest_due_seconds", "Seconds for which the oldest due call has waited.", found.oldest_due_seconds or 0.0)
    gauge("holds", "Holds of the queue and its batches, and batches cancelled for good.", len(found.holds))
    gauge("workers", "Workers that are alive.", found.workers)
    gauge("calls_per_second", "Calls sent per second by all workers together, over the last 5 seconds.", found.rate_now)
    if found.limits is not None and found.limits.rate is not None:
        gauge("limit_calls_per_second", "The rate limit of the queue; absent if it is unlimited.", found.limits.rate)
    for each in figures:
        Gauge(f"voiceflow_store_{each.name}", each.meaning, registry=registry).set(each.value)
    return generate_latest(registry)
