"""The tracer provider of the commands: it sends spans to the collector that OpenTelemetry's own variables name.

This module is imported only where they name one: it needs the extra `otel`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from threading import Thread

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

_log = structlog.get_logger("voiceflow.telemetry")

MOST = 10
"""The new traces a second in one process, unless OTEL_TRACES_SAMPLER says otherwise. At an everyday rate every call is
traced. To trace every row of a large campaign would cost a quarter of the processor time of its calls."""
SHUTDOWN_TIMEOUT = 2.0
"""The seconds in which the last spans may be sent when a command ends."""


class _SomeASecond(Sampler):
    """Samples the first spans of each second, and every span with a link: the redial of a call that is traced."""

    def __init__(self) -> None:
        self._second, self._left = 0, MOST

    def should_sample(  # noqa: PLR0917 - as OpenTelemetry calls it
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Whether the trace that begins with this span is recorded and sent."""
        del parent_context, trace_id, name, kind
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._left = second, MOST
        self._left -= not links
        wanted = Decision.RECORD_AND_SAMPLE if links or self._left >= 0 else Decision.DROP
        return SamplingResult(wanted, attributes, trace_state)

    def get_description(self) -> str:
        """The name of this sampler, for OpenTelemetry."""
        return f"SomeASecond{{{MOST}}}"


@contextmanager
def sending_traces(*, sampler_is_named: bool) -> Generator[None]:
    """Send the traces of this command while the block lasts, as OpenTelemetry's variables say.

    A provider that the program was started with (`opentelemetry-instrument`) is left alone. A collector that does not
    answer loses spans: it delays no call, and the end of a command by two seconds.
    """
    provider = _provider(sampler_is_named=sampler_is_named)
    try:
        yield
    finally:
        if provider is not None:
            # A thread that nobody waits for: the provider itself waits for up to 30 s.
            last = Thread(target=provider.shutdown, daemon=True)
            last.start()
            last.join(SHUTDOWN_TIMEOUT)


def _provider(*, sampler_is_named: bool) -> TracerProvider | None:
    """A provider set up for this process; None if there is one, or if OpenTelemetry refuses its variables."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    try:
        named = Resource({SERVICE_NAME: "voiceflow"}).merge(OTELResourceDetector().detect())
        sampler = None if sampler_is_named else ParentBased(_SomeASecond())
        provider = TracerProvider(sampler, named, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except Exception as error:  # noqa: BLE001 - a variable that OpenTelemetry refuses stops no command
        _log.warning("no traces are sent, because OpenTelemetry refuses its variables", error=str(error))
        return None
    trace.set_tracer_provider(provider)
    return provider
