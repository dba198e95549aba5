"""Traces of calls for OpenTelemetry: spans of enqueuing, of each POST, of a granted redial, and of its summary.

They are made where the program has set up a tracer provider. This module never imports OpenTelemetry itself: without a
provider, nothing is loaded and nothing is done.

Processes share a trace through the record of a job: `Job.trace` is the `traceparent` (W3C Trace Context) of the span
that put the job into the queue, and the parent of the other spans. A job whose trace is not sampled has none. Spans
carry ids, verdicts, states and codes. They carry no phone number, no text, no key and no name of a person, and 8x8 gets
nothing of a trace.

Whatever a provider raises is logged, and the call goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import structlog

from voiceflow_worker.core.ports.round_trips import RateLimitedLog
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.verdict import NOBODY_CALLED, Verdict, VerdictKind

if TYPE_CHECKING:
    from types import ModuleType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer, TracerProvider

_log = structlog.get_logger("voiceflow.tracing")

NAME = "voiceflow_worker"
_API = "opentelemetry.trace"


class _Known(NamedTuple):
    """The tracer of the provider that was met last."""

    provider: TracerProvider
    tracer: Tracer


class _Tracers:
    def __init__(self) -> None:
        self._known: _Known | None = None

    def now(self) -> tuple[ModuleType, Tracer] | None:
        """OpenTelemetry and our tracer; None if the program has set up no provider."""
        api = sys.modules.get(_API)
        if api is None:
            return None
        provider = api.get_tracer_provider()
        if self._known is None or self._known.provider is not provider:
            if isinstance(provider, api.ProxyTracerProvider):
                return None
            self._known = _Known(provider, provider.get_tracer(NAME))
        return api, self._known.tracer


_tracers = _Tracers()


@contextmanager
def enqueueing(jobs: list[Job]) -> Generator[dict[int, str]]:
    """Make a span `enqueue` of each new job while the block stores them, and give each job its trace, in place.

    The parent is the span that is current in the program. What became of a job that is not created is written into the
    yielded dict, by the place of the job.
    """
    others: dict[int, str] = {}
    spans: list[Span] = []
    if _API in sys.modules:
        try:
            spans = _begin_all(jobs)
        except Exception as error:  # noqa: BLE001 - whatever a provider raises, the calls are enqueued
            _failed(error)
    try:
        yield others
    except BaseException as error:
        _end_all(spans, others, error=type(error).__name__)
        raise
    if spans:
        _end_all(spans, others)


def _begin_all(jobs: list[Job]) -> list[Span]:
    found = _tracers.now()
    if found is None:
        return []
    api, tracer = found
    spans: list[Span] = []
    for place, job in enumerate(jobs):
        attributes = {**_of(job), "messaging.operation.name": "enqueue", "messaging.operation.type": "send"}
        span = tracer.start_span("enqueue", kind=api.SpanKind.PRODUCER, attributes=attributes)
        spans.append(span)
        if (trace := _traceparent(span)) is not None:
            jobs[place] = replace(job, trace=trace)
    return spans


def _end_all(spans: Sequence[Span], others: Mapping[int, str], *, error: str | None = None) -> None:
    try:
        for place, span in enumerate(spans):
            if span.is_recording():
                span.set_attribute("voiceflow.result", others.get(place, "created" if error is None else "failed"))
                if error is not None:
                    _mark_failed(span, error)
            span.end()
    except Exception as fault:  # noqa: BLE001 - as above
        _failed(fault)


def post_begun(job: Job) -> Span | None:
    """Begin the span of the newest POST of a job; None if the job has no trace. Pass it to `post_ended`."""
    if job.trace is None or _API not in sys.modules:
        return None
    try:
        found = _tracers.now()
        if found is None:
            return None
        api, tracer = found
        attributes = {**_of(job), "http.request.method": "POST", "voiceflow.post": job.post_count}
        return tracer.start_span(
            "POST /callflows", context=_within(api, job.trace), kind=api.SpanKind.CLIENT, attributes=attributes
        )
    except Exception as error:  # noqa: BLE001 - the call leaves all the same
        _failed(error)
        return None


def post_ended(span: Span | None, verdict: Verdict | None) -> None:
    """End the span of a POST, with its verdict; None if the POST was cut short."""
    if span is None:
        return
    try:
        if verdict is None:
            _mark_failed(span, "cut_short")
        else:
            attributes: dict[str, str | int] = {"voiceflow.verdict": verdict.kind.value}
            if verdict.http_status is not None:
                attributes["http.response.status_code"] = verdict.http_status
            if verdict.code is not None:
                attributes["voiceflow.code"] = verdict.code
            if verdict.cause is not None:
                attributes["voiceflow.cause"] = verdict.cause.value
            span.set_attributes(attributes)
            if verdict.kind in NOBODY_CALLED or verdict.kind is VerdictKind.UNKNOWN:
                _mark_failed(span, verdict.kind.value)
        span.end()
    except Exception as error:  # noqa: BLE001 - the verdict is settled all the same
        _failed(error)


def redialled(old: Job, new: Job) -> tuple[Job, Span | None]:
    """The job after a change. A change that granted another call begins a new trace, with a link to the trace before.

    End the span when the change is stored.
    """
    if new.redials == old.redials or old.trace is None or _API not in sys.modules:
        return new, None
    try:
        found = _tracers.now()
        if found is None:
            return new, None
        api, tracer = found
        span = tracer.start_span(
            "redial",
            context=api.set_span_in_context(api.INVALID_SPAN),  # no span of the program is its parent
            kind=api.SpanKind.PRODUCER,
            attributes={**_of(new), "voiceflow.redial": new.redials},
            links=[api.Link(_context_of(api, old.trace))],
        )
        return replace(new, trace=_traceparent(span)), span
    except Exception as error:  # noqa: BLE001 - evidence is stored all the same
        _failed(error)
        return new, None


def end(span: Span | None) -> None:
    """End a span, if there is one."""
    if span is not None:
        try:
            span.end()
        except Exception as error:  # noqa: BLE001 - as above
            _failed(error)


def began() -> int:
    """The time at which a span begins whose trace is not known yet, in nanoseconds since 1970."""
    return time.time_ns()


def summarised(old: Job, new: Job, number: int, outcome: Outcome, *, since: int) -> None:
    """Make the span of a summary that was applied to the POST with this number. The keys pressed are its events."""
    post = old.post(number)
    # After a redial was granted, the trace of an older POST is no longer known.
    if old.trace is None or post is None or post.redial != old.redials or _API not in sys.modules:
        return
    try:
        found = _tracers.now()
        if found is None:
            return
        api, tracer = found
        attributes: dict[str, str | int] = {**_of(old), "voiceflow.post": number, "voiceflow.state": new.state.value}
        if outcome.status is not None:
            attributes["voiceflow.outcome"] = outcome.status.value
        if outcome.code is not None:
            attributes["voiceflow.code"] = outcome.code
        span = tracer.start_span(
            "summary",
            context=_within(api, old.trace),
            kind=api.SpanKind.CONSUMER,
            attributes=attributes,
            start_time=since,
        )
        for press in post.presses:
            span.add_event("key press", {"voiceflow.menu": press.menu}, timestamp=int(press.at.timestamp() * 1e9))
        span.end()
    except Exception as error:  # noqa: BLE001 - the summary is stored, and its sender must learn that
        _failed(error)


def _of(job: Job) -> dict[str, str | int]:
    """The attributes by which the spans of a call are found, named by OpenTelemetry's conventions for messages."""
    return {
        "messaging.system": "voiceflow",
        "messaging.destination.name": job.queue,
        "messaging.message.id": job.id,
    }


def _traceparent(span: Span) -> str | None:
    context = span.get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _context_of(api: ModuleType, trace: str) -> SpanContext:
    _, trace_id, span_id, flags = trace.split("-")
    context: SpanContext = api.SpanContext(int(trace_id, 16), int(span_id, 16), True, api.TraceFlags(int(flags, 16)))  # noqa: FBT003
    return context


def _within(api: ModuleType, trace: str) -> Context:
    context: Context = api.set_span_in_context(api.NonRecordingSpan(_context_of(api, trace)))
    return context


def _mark_failed(span: Span, kind: str) -> None:
    """Mark a span as failed, without a description: an error's text may name a person."""
    api = sys.modules[_API]
    span.set_attribute("error.type", kind)
    span.set_status(api.Status(api.StatusCode.ERROR))


_seldom = RateLimitedLog()


def _failed(error: Exception) -> None:
    if (more := _seldom.admit(type(error))) is not None:
        _log.warning("a span could not be made; the call goes on", error=type(error).__name__, more=more)
