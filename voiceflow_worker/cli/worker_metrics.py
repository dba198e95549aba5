"""`GET /metrics` of a worker: the state of its queue, read from the store at each request."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from voiceflow_worker.core.overview.status import QueueStatus
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import StoreError


def metrics_app(calls: CallQueue, more: Collector | None = None) -> Starlette:
    """An app that serves the metrics of the queue and of the collector `more` at `GET /metrics`, for Prometheus.

    The app answers 503 while the store cannot be reached.
    """

    async def metrics(_request: Request) -> Response:
        try:
            found = await calls.status()
        except StoreError as error:
            return PlainTextResponse(f"the store cannot be reached: {error}\n", status_code=503)
        return Response(metrics_text(found, more), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])


def metrics_text(found: QueueStatus, more: Collector | None = None) -> bytes:
    """The metrics of a queue and of the collector `more`, in the text format of Prometheus."""
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
    meaning = "1 for each number of the account that 8x8 reports as not Active."
    odd = Gauge("voiceflow_number_not_active", meaning, ["number", "status"], registry=registry)
    for each in found.odd_numbers:
        odd.labels(each.number, each.status).set(1)
    if found.limits is not None and found.limits.rate is not None:
        gauge("limit_calls_per_second", "The rate limit of the queue; absent if it is unlimited.", found.limits.rate)
    return generate_latest(registry)
