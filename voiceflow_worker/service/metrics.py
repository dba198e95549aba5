"""Every metric for Prometheus: its name, its meaning and its labels. Workers and receivers register what is theirs."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from shutil import disk_usage
from typing import Any, TypeAlias

import anyio
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.asgi.server import serving
from voiceflow_worker.core.base.background import Task, failing_here
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.record_set import unreadable_here
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.verdicts import BOUNDS, WorkCounts
from voiceflow_worker.core.worker import Worker
from voiceflow_worker.errors import StoreError
from voiceflow_worker.finding import Level
from voiceflow_worker.model.jobs.gate import GateScope, GateState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.notify.delivery import Notifications
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.service.on_call import counted_here
from voiceflow_worker.service.whole_queue import WholeQueue, health, read_queue
from voiceflow_worker.settings import Settings


@dataclass(frozen=True, slots=True)
class MetricOf:
    """A metric as Prometheus shows it: a counter, a gauge, or durations in seconds by `bounds`."""

    kind: type[Counter | Gauge | Histogram]
    name: str
    meaning: str
    labels: tuple[str, ...]
    bounds: Sequence[float] = ()

    def on(self, registry: CollectorRegistry) -> Any:
        """Return the metric, registered."""
        more: dict[str, Any] = {"buckets": self.bounds} if self.kind is Histogram else {}
        return self.kind(self.name, self.meaning, self.labels, registry=registry, **more)


def _counter(name: str, meaning: str, *labels: str) -> MetricOf:
    return MetricOf(Counter, name, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> MetricOf:
    return MetricOf(Gauge, name, meaning, labels)


Figure: TypeAlias = tuple[MetricOf, tuple[str, ...], float]
"""A metric, the values of its labels, and its value."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """The collector of figures that are kept elsewhere: `read` returns them, or whole metrics, at each scrape."""

    read: Callable[[], Iterable[Figure | Metric]]

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with their current values."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for each in self.read():
            if isinstance(each, Metric):
                yield each
                continue
            of, labels, value = each
            family = CounterMetricFamily if of.kind is Counter else GaugeMetricFamily
            families.setdefault(of.name, family(of.name, of.meaning, labels=of.labels)).add_metric(labels, value)
        yield from families.values()


QUEUE_JOBS = _gauge("voiceflow_queue_jobs", "Calls in each state.", "queue", "state")
QUEUE_OLDEST_DUE = _gauge("voiceflow_queue_oldest_due_seconds", "Seconds since the oldest due call was due.", "queue")
QUEUE_HOLDS = _gauge("voiceflow_queue_holds", "Holds of the queue and its batches.", "queue")
QUEUE_HELD = _gauge("voiceflow_queue_held", "1 while the queue itself is held.", "queue")
QUEUE_STOPPED = _gauge("voiceflow_queue_stopped", "1 while the queue is held until somebody resumes it.", "queue")
QUEUE_CONDITIONS = _gauge(
    "voiceflow_queue_conditions", "What is in the way of calls, as in `status`.", "queue", "condition", "level"
)
QUEUE_WAITING = _gauge("voiceflow_queue_waiting", "Calls that wait, as in `status`.", "queue", "why")
QUEUE_OVERDUE = _gauge("voiceflow_queue_overdue_outcomes", "Calls without a summary long after their POST.", "queue")
QUEUE_WORKERS = _gauge("voiceflow_queue_workers", "Workers that are alive.", "queue")
QUEUE_RATE = _gauge("voiceflow_queue_calls_per_second", "Calls sent per second in the last 5 s.", "queue")
QUEUE_LIMIT = _gauge("voiceflow_queue_limit_calls_per_second", "The rate limit; absent without one.", "queue")
STORE_UP = _gauge("voiceflow_store_up", "1 if the store answers and takes heartbeats, else 0.")
STORE_FIGURES = _gauge("voiceflow_store_figures_seconds", "Seconds to read the figures of the store.")
STORE_CLOCK_AHEAD = _gauge("voiceflow_store_clock_ahead_seconds", "Seconds by which the store's clock is ahead.")
STORE_RECEIVERS = _gauge("voiceflow_store_receivers", "Receivers of the store that are alive.")
VERDICTS = _counter(
    "voiceflow_worker_verdicts_total", "Calls by the verdict on their POST, and why.", "verdict", "detail"
)
POST_SECONDS = MetricOf(
    Histogram, "voiceflow_worker_post_seconds", "Seconds from a call's slot to its verdict.", (), BOUNDS
)
SLOTS_MISSED = _counter("voiceflow_worker_slots_missed_total", "Send slots that passed unused.")
IN_FLIGHT = _gauge("voiceflow_worker_in_flight", "Leased calls without a stored verdict.")
VERDICTS_WAITING = _gauge("voiceflow_worker_verdicts_waiting", "Verdicts that could not be stored yet.")
TASK_FAILING = _gauge("voiceflow_worker_failing", "Workers for which a task, or 8x8, fails now.", "task")
BUILD = _gauge("voiceflow_build_info", "1, with the version of this program.", "version")
DISK_FREE = _gauge("voiceflow_state_disk_free_ratio", "The free part of the state directory's disk.")
WEBHOOK_ANSWERS = _counter("voiceflow_webhook_answers_total", "Answers given to webhook requests.", "status")
WEBHOOK_EVENTS = _counter("voiceflow_webhook_events_total", "Events received, by their kind.", "kind")
WEBHOOK_SUMMARIES = _counter("voiceflow_webhook_summaries_total", "Session summaries, by their effect.", "result")
WEBHOOK_REFUSALS = _counter("voiceflow_webhook_refusals_total", "Requests refused, by the reason.", "reason")
WEBHOOK_UNPARSED = _counter("voiceflow_webhook_unparsed_total", "Events not understood, by the reason.", "reason")
WEBHOOK_STORE_FAILURES = _counter("voiceflow_webhook_store_failures_total", "Events answered 503, not stored.")
WEBHOOK_IN_PROGRESS = _gauge("voiceflow_webhook_in_progress", "Events that are being handled.")
WEBHOOK_SECONDS = MetricOf(
    Histogram,
    "voiceflow_webhook_seconds",
    "Seconds from a request to its answer.",
    (),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
IVR_ANSWERS = _counter("voiceflow_ivr_answers_total", "Answers of menus to events.", "result")
API_ANSWERS = _counter("voiceflow_api_answers_total", "Answers of the HTTP API, by route.", "route", "status")
API_WAITING = _gauge("voiceflow_api_waiting", "Requests that wait for an outcome.")
POLICIES_REFUSED = _gauge("voiceflow_escalation_policies_refused", "1 while the file of --escalations is wrong.")
UNANSWERED = _counter("voiceflow_on_call_unanswered_total", "Escalations that nobody has acknowledged.")
LEFT_OUT = _counter("voiceflow_on_call_left_out_total", "Numbers of escalations that could not be called.")
HOOK_DELIVERED = _counter("voiceflow_hook_delivered_total", "Outcomes delivered.", "hook")
HOOK_FAILURES = _counter("voiceflow_hook_failures_total", "Failed deliveries.", "hook")
HOOK_WAITING = _gauge("voiceflow_hook_waiting", "Outcomes waiting for delivery.", "hook")
HOOK_STOPPED = _gauge("voiceflow_hook_stopped", "1 if the receiver wants no more.", "hook")
RECORDS_UNREADABLE = _counter(
    "voiceflow_records_unreadable_total", "Records that this process could not read, up to 10,000."
)


def of_hooks(hooks: Notifications) -> Iterator[Figure]:
    """Yield the figures of the notifications of this process."""
    for hook, counts in hooks.counts.items():
        yield HOOK_DELIVERED, (hook,), counts.delivered
        yield HOOK_FAILURES, (hook,), counts.failures
        yield HOOK_WAITING, (hook,), counts.waiting
        yield HOOK_STOPPED, (hook,), counts.is_stopped


def of_process(folder: Path | None) -> Iterator[Figure | Metric]:
    """Return the figures of this process and of its stores, and of the disk of `folder` (None: where it runs)."""
    yield RECORDS_UNREADABLE, (), unreadable_here()
    yield BUILD, (version("voiceflow-worker"),), 1
    with suppress(OSError):  # the folder is made when it is first needed
        disk = disk_usage(folder or Path())
        yield DISK_FREE, (), disk.free / disk.total
    yield UNANSWERED, (), counted_here()["unanswered"]
    yield LEFT_OUT, (), counted_here()["left_out"]
    yield from PROCESS_COLLECTOR.collect()
    yield from PLATFORM_COLLECTOR.collect()


def of_work(counts: WorkCounts) -> Iterator[Figure | Metric]:
    """Yield the figures of the work of this process's worker."""
    up_to = zip((*map(str, BOUNDS), "+Inf"), accumulate(counts.posts), strict=True)
    yield from ((VERDICTS, tuple(key.split(" ")), count) for key, count in sorted(counts.verdicts.items()))
    yield HistogramMetricFamily(
        POST_SECONDS.name, POST_SECONDS.meaning, buckets=list(up_to), sum_value=counts.post_seconds
    )
    yield SLOTS_MISSED, (), counts.slots_missed
    yield IN_FLIGHT, (), counts.in_flight
    yield VERDICTS_WAITING, (), counts.verdicts_waiting
    yield from ((TASK_FAILING, (Task(task).name.lower(),), count) for task, count in sorted(counts.failing.items()))


@asynccontextmanager
async def serving_metrics(
    calls: CallQueue, worker: Worker, hooks: Notifications | None, settings: Settings, *, host: str, port: int
) -> AsyncGenerator[str]:
    """Serve the metrics of a worker, of its queue and process during the block, and yield the URL."""
    of_all = [lambda: of_work(worker.counts), lambda: of_process(settings.state_dir)]
    app = metrics_app(calls, *map(Figures, of_all), *([] if hooks is None else [Figures(lambda: of_hooks(hooks))]))
    async with serving(app, host=host, port=port) as address:
        yield address.url


def metrics_app(calls: CallQueue, *more: Collector) -> Starlette:
    """Return an app that serves the metrics of the queue, its store and the collectors `more` at `GET /metrics`.

    `GET /healthz` answers 200 as long as the process works, and names the background tasks of the queue's workers that
    fail.
    """
    scraped = Scraped(calls.store, calls.policy, queue=calls.name)

    async def metrics(_request: Request) -> Response:
        return await scraped.answer(*more)

    async def healthz(_request: Request) -> Response:
        failing = failing_here()
        with anyio.move_on_after(STORE_WITHIN), suppress(StoreError):  # workers may be other processes
            failing |= await Heartbeats(calls.store).failing(calls.name)
        return JSONResponse(health(failing))

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"]), Route("/healthz", healthz, methods=["GET"])])


STORE_WITHIN = 0.7
"""Seconds that a scrape waits for the first answer of the store. While it is away, a scrape takes less than one."""
FIGURES_WITHIN = 5.0
"""Seconds for all figures of a store that answers: half of what Prometheus waits."""
SHARED_FOR = 1.0
"""Seconds for which requests share what one of them has read: /metrics needs no secret, and must not load the store."""


class Scraped:
    """Figures of a store about a queue, by default of all its queues, to those who ask for metrics.

    While it does not answer, the metrics of the process are served alone, within a second; and after some seconds,
    while it is too busy to give its figures. `voiceflow_store_up` is 1 if it answers and takes the heartbeats.
    """

    def __init__(self, store: Store, policy: CallPolicy, *, queue: str | None = None) -> None:
        self._store = store
        self._policy = policy
        self._queue = queue
        self._reading, self._until = anyio.Lock(), float("-inf")
        self._figures: Sequence[Figure] = ()
        self._answers = False

    async def answer(self, *more: Collector) -> Response:
        """Return the figures of the store, if they are known, and the metrics of `more`."""
        async with self._reading:
            if anyio.current_time() >= self._until:
                await self._read()
                self._until = anyio.current_time() + SHARED_FOR
        is_up = self._answers and Task.HEARTBEAT not in failing_here()
        found = [Figures(lambda: self._figures)]
        return Response(metrics_text(*more, *found, is_up=is_up), media_type=CONTENT_TYPE_LATEST)

    async def _read(self) -> None:
        self._figures, self._answers, began = (), False, anyio.current_time()
        with anyio.move_on_after(STORE_WITHIN) as limit, suppress(StoreError):
            receivers = await Heartbeats(self._store).receivers()
            self._answers = True
            limit.deadline = began + FIGURES_WITHIN
            names = await QueueNames(self._store).known() if self._queue is None else [self._queue]
            queues = [await read_queue(CallQueue(self._store, name, policy=self._policy)) for name in names]
            seconds = anyio.current_time() - began
            own = (STORE_FIGURES, (), seconds), (STORE_RECEIVERS, (), receivers)
            self._figures = [*(figure for queue in queues for figure in of_queue(queue)), *own]


def metrics_text(*collectors: Collector, is_up: bool = True) -> bytes:
    """Return the metrics of these collectors, and whether the store is up, in the text format of Prometheus."""
    registry = CollectorRegistry()
    for each in collectors:
        registry.register(each)
    STORE_UP.on(registry).set(is_up)
    return generate_latest(registry)


def of_queue(queue: WholeQueue) -> Iterator[Figure]:
    """Yield the figures of a queue."""
    status, name = queue.status, queue.status.queue
    for state, count in status.states.items():
        yield QUEUE_JOBS, (name, state.value), count
    holds = [gate for gate in status.holds if gate.state is not GateState.CANCELLED]
    stopped = [gate for gate in holds if gate.scope is GateScope.QUEUE]
    yield QUEUE_OLDEST_DUE, (name,), status.oldest_due_seconds or 0.0
    yield QUEUE_HOLDS, (name,), len(holds)
    yield QUEUE_HELD, (name,), bool(stopped)
    lasting = [gate for gate in stopped if gate.until is None]
    yield QUEUE_STOPPED, (name,), bool(lasting)
    yield QUEUE_OVERDUE, (name,), status.overdue_outcomes
    for why, count in status.waiting.as_json().items():
        yield QUEUE_WAITING, (name, why), count
    yield QUEUE_WORKERS, (name,), status.workers
    yield QUEUE_RATE, (name,), status.rate_now
    if status.limits is not None and status.limits.rate is not None:
        yield QUEUE_LIMIT, (name,), status.limits.rate
    counted = Counts((each.check, each.level.value) for each in queue.conditions if each.level is not Level.OK)
    for (condition, level), count in counted.items():
        yield QUEUE_CONDITIONS, (name, condition, level), count
    yield STORE_CLOCK_AHEAD, (), queue.clock_ahead.total_seconds()
