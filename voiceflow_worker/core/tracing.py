"""What the steps of a call leave for operators: spans for OpenTelemetry, and lines of the log at level info.

Steps are enqueuing, each POST with its answer, a granted redial, and the summary. Spans are made where the program has
set up a tracer provider, or was started with `opentelemetry-instrument`. Lines are written within `logged`: in somebody
else's program, or in a command that shows its calls otherwise, they would only fill the output.

Processes share a trace through the record of a job: `Job.trace` is the `traceparent` (W3C Trace Context) of the span
that put the job into the queue, and the parent of the other spans. A job whose trace is not sampled has none. Spans and
lines carry ids, verdicts, states and codes. They carry no phone number, text, key press or name of a person, and 8x8
gets nothing of a trace. Whatever a provider raises is logged, and the call goes on.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from traceback import format_exception
from types import TracebackType
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from voiceflow_worker.core.base.round_trips import RateLimitedLog
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job, Post
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.verdict import NOBODY_CALLED, Verdict, VerdictKind
from voiceflow_worker.model.text.printable import masked_event, without_numbers

_log = structlog.get_logger("voiceflow.tracing")
_calls = structlog.get_logger("voiceflow.calls")
_seldom = RateLimitedLog()


class _Lines:
    are_wanted = False


@contextmanager
def logged() -> Generator[None]:
    """Log the steps of the calls of this process, at level info, while the block lasts."""
    _Lines.are_wanted = True
    try:
        yield
    finally:
        _Lines.are_wanted = False


def mask_logs() -> None:
    """Mask telephone numbers in all logs of this process from now on, also of a program that has set them up itself."""
    sys.excepthook = _masked_traceback
    chains = [structlog.get_config()["processors"]]
    if not isinstance(chains[0], list):
        structlog.configure(processors=list(chains[0]))
        chains = [structlog.get_config()["processors"]]
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            chains.append(processors := list(handler.formatter.processors))
            handler.formatter.processors = processors
    for chain in chains:
        if _masked_whole not in chain:
            chain.insert(-1, _masked_whole)  # in place: loggers that were used keep their list


def _masked_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    sys.stderr.write(without_numbers("".join(format_exception(kind, error, where))))


def _masked_whole(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An event masked with its traceback, which the last of a chain would write out itself."""
    if event.get("exc_info"):
        event = structlog.processors.format_exc_info(logger, method, event)
        event["stack"] = event.pop("exception")
    return masked_event(logger, method, event)


@lru_cache(maxsize=1)
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer | None:
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider.get_tracer("voiceflow_worker")


def _tracer() -> trace.Tracer | None:
    """Our tracer; None if the program has set up no provider."""
    return _tracer_of(trace.get_tracer_provider())


@contextmanager
def _guarded() -> Generator[None]:
    """Log whatever a provider raises: the call is enqueued, sent and settled all the same."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - as above
        if (more := _seldom.admit(type(error))) is not None:
            _log.warning("a span could not be made; the call goes on", error=type(error).__name__, more=more)


@contextmanager
def enqueueing(jobs: list[Job]) -> Generator[dict[int, str]]:
    """Make a span `enqueue` of each new job while the block stores them, and give each job its trace, in place.

    The parent is the span that is current in the program. What became of a job that is not created is written into the
    yielded dict, by the place of the job.
    """
    results: dict[int, str] = {}
    spans: list[Span] = []
    if (tracer := _tracer()) is not None:
        with _guarded():
            for place, job in enumerate(jobs):
                attributes = {**_of(job), "messaging.operation.name": "enqueue", "messaging.operation.type": "send"}
                spans.append(tracer.start_span("enqueue", kind=SpanKind.PRODUCER, attributes=attributes))
                if (traceparent := _traceparent(spans[-1])) is not None:
                    jobs[place] = replace(job, trace=traceparent)
    error: str | None = None
    try:
        yield results
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        with _guarded():
            for place, span in enumerate(spans):
                span.set_attribute("voiceflow.result", results.get(place, "created" if error is None else "failed"))
                _end(span, error)


def post_begun(job: Job) -> Span | None:
    """The newest POST of a job is handed to the gateway. Pass the result to `post_ended`."""
    if job.trace is not None and (tracer := _tracer()) is not None:
        with _guarded():
            attributes = {**_of(job), "http.request.method": "POST", "voiceflow.post": job.post_count}
            parent = trace.set_span_in_context(NonRecordingSpan(_context_of(job.trace)))
            return tracer.start_span("POST /callflows", context=parent, kind=SpanKind.CLIENT, attributes=attributes)
    return None


def post_ended(span: Span | None, job: Job, verdict: Verdict | None) -> None:
    """8x8 has answered the newest POST of a job, or nothing was sent, or nobody knows. None: the POST was cut short."""
    in_doubt = verdict is not None and verdict.kind is VerdictKind.UNKNOWN
    if verdict is not None and (in_doubt or _Lines.are_wanted):
        fields = _ids(job, job.posts[-1])
        fields["verdict"] = verdict.kind.value
        for name in ("http_status", "code", "session_id", "cause"):
            if (value := getattr(verdict, name)) is not None:
                fields[name.removesuffix("_id")] = value
        if in_doubt:
            _calls.warning("the call is in doubt", **fields, error=verdict.message)
        else:
            _calls.info("8x8 answered", **fields)
    if span is None:
        return
    with _guarded():
        if verdict is None:
            _end(span, "cut_short")
            return
        attributes: dict[str, str | int | None] = {
            "voiceflow.verdict": verdict.kind.value,
            "http.response.status_code": verdict.http_status,
            "voiceflow.code": verdict.code,
            "voiceflow.cause": None if verdict.cause is None else verdict.cause.value,
        }
        span.set_attributes(_present(attributes))
        has_failed = verdict.kind in NOBODY_CALLED or verdict.kind is VerdictKind.UNKNOWN
        _end(span, verdict.kind.value if has_failed else None)


def redialled(old: Job, new: Job) -> tuple[Job, Span | None]:
    """The job after a change. A change that granted another call begins a new trace, with a link to the trace before.

    End the span with `end` when the change is stored.
    """
    if new.redials != old.redials and old.trace is not None and (tracer := _tracer()) is not None:
        with _guarded():
            span = tracer.start_span(
                "redial",
                context=trace.set_span_in_context(trace.INVALID_SPAN),  # no span of the program is its parent
                kind=SpanKind.PRODUCER,
                attributes={**_of(new), "voiceflow.redial": new.redials},
                links=[Link(_context_of(old.trace))],
            )
            return replace(new, trace=_traceparent(span)), span
    return new, None


def end(span: Span | None) -> None:
    """End a span, if there is one."""
    if span is not None:
        with _guarded():
            span.end()


def began() -> int:
    """The time at which a span begins whose trace is not known yet, in nanoseconds since 1970."""
    return time.time_ns()


def summarised(old: Job, new: Job, number: int, outcome: Outcome, *, since: int) -> None:
    """A summary has settled the POST with this number. The answers in its menu are events of its span."""
    if _Lines.are_wanted:
        status = outcome.status.value if outcome.status is not None else outcome.status_text
        told = {"outcome": status, "state": new.state.value, "seconds": outcome.seconds}
        _calls.info("an outcome came", **_ids(new, new.post(number)), session=outcome.session_id, **told)
    post = old.post(number)
    # After a redial was granted, the trace of an older POST is no longer known.
    if old.trace is None or post is None or post.redial != old.redials or (tracer := _tracer()) is None:
        return
    with _guarded():
        attributes: dict[str, str | int | None] = {
            "voiceflow.post": number,
            "voiceflow.state": new.state.value,
            "voiceflow.outcome": None if outcome.status is None else outcome.status.value,
            "voiceflow.code": outcome.code,
        }
        parent = trace.set_span_in_context(NonRecordingSpan(_context_of(old.trace)))
        span = tracer.start_span(
            "summary",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes={**_of(old), **_present(attributes)},
            start_time=since,
        )
        for press in post.presses:
            span.add_event("key press", {"voiceflow.menu": press.menu}, timestamp=int(press.at.timestamp() * 1e9))
        span.end()


def _of(job: Job) -> dict[str, str | int]:
    """The attributes by which the spans of a call are found, named by OpenTelemetry's conventions for messages."""
    return {
        "messaging.system": "voiceflow",
        "messaging.destination.name": job.queue,
        "messaging.message.id": job.id,
    }


def _ids(job: Job, post: Post | None) -> dict[str, object]:
    """The fields by which the lines of a call are found."""
    fields: dict[str, object] = {"job": job.id, "post": None if post is None else post.client_request_id}
    if job.batch_id is not None:
        fields["batch"] = job.batch_id
    return fields


def _present(fields: Mapping[str, str | int | None]) -> dict[str, str | int]:
    return {name: value for name, value in fields.items() if value is not None}


def _traceparent(span: Span) -> str | None:
    context = span.get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _context_of(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _end(span: Span, error: str | None) -> None:
    """End a span. One that failed says so without a description: an error's text may name a person."""
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(trace.Status(trace.StatusCode.ERROR))
    span.end()
