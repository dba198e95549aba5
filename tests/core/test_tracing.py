"""Traces: one for each call, through its processes, without anything of the person; and a call needs none of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from tests.support.engine import Engine, ScriptedEngine
from tests.support.flows import SOURCE, flow, number
from voiceflow_worker import CallRequest, JobState, RedialPolicy, SessionStatus
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import InvalidInputError, SuppressedNumberError
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.webhooks.menu_calls import MenuCall, MenuCalls

pytestmark = pytest.mark.anyio

ANN, HOME = number(1), number(2)
TEXT = "Hello Ann, your appointment is at 10:30."

Provide = Callable[..., InMemorySpanExporter]


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch) -> Provide:
    """Set up a provider, as a program does, for the length of a test."""

    def provide(sampler: Sampler | None = None, *processors: SpanProcessor) -> InMemorySpanExporter:
        kept = InMemorySpanExporter()
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        for processor in (*processors, SimpleSpanProcessor(kept)):
            provider.add_span_processor(processor)
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        return kept

    return provide


@pytest.fixture
def kept(provide: Provide) -> InMemorySpanExporter:
    return provide()


def named(kept: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in kept.get_finished_spans() if span.name == name]


def traces(spans: Sequence[ReadableSpan]) -> set[int]:
    return {context.trace_id for span in spans if (context := span.context) is not None}


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_call_is_one_trace_from_the_programs_own_span_to_the_summary(
    here: ScriptedEngine, kept: InMemorySpanExporter
) -> None:
    with trace.get_tracer_provider().get_tracer("shop").start_as_current_span("order"):
        job = await here.queue.enqueue(flow(ANN, TEXT), unique_key="order-42", batch_id="july", data={"name": "Ann"})
    here.clock.advance(timedelta(minutes=5))
    # Whoever sends and settles it need not have enqueued it: only the store is common.
    await Engine(here.store, here.voice).send()
    pressed = KeyPress(at=here.clock.now(), menu="welcome", digits="47#1*", event_id="e-1")
    call = MenuCall(await here.queue.get(job.id), 1, ())
    await MenuCalls(here.store, here.policy).pressed(call, pressed, session_id=None)
    await Engine(here.store, here.voice).summarise(job)
    names = "order", "enqueue", "POST /callflows", "summary"
    order, enqueue, post, summary = (named(kept, name)[0] for name in names)
    assert len(kept.get_finished_spans()) == 4
    assert traces(kept.get_finished_spans()) == {order.context.trace_id if order.context else 0}
    assert [span.parent and span.parent.span_id for span in (enqueue, post, summary)] == [
        parent.context and parent.context.span_id for parent in (order, enqueue, enqueue)
    ]
    assert [span.kind for span in (enqueue, post, summary)] == [SpanKind.PRODUCER, SpanKind.CLIENT, SpanKind.CONSUMER]
    for span in (enqueue, post, summary):
        assert told(span)["messaging.message.id"] == job.id
        assert told(span)["messaging.destination.name"] == "default"
    assert told(enqueue)["voiceflow.result"] == "created"
    assert told(post) | {"voiceflow.verdict": "created", "http.response.status_code": 200} == told(post)
    assert told(summary) | {"voiceflow.outcome": "COMPLETED", "voiceflow.state": "completed"} == told(summary)
    assert [(event.name, dict(event.attributes or {})) for event in summary.events] == [
        ("key press", {"voiceflow.menu": "welcome"})
    ]
    everything = "".join(span.to_json() for span in (enqueue, post, summary))
    for private in (ANN[3:], SOURCE[3:], "Hello", "Ann", "order-42", "july", "47#1*"):
        assert private not in everything, private
    # What is sent to 8x8 has nothing of the trace.
    assert (await here.queue.get(job.id)).trace is not None
    assert "00-" + f"{next(iter(traces([post]))):032x}" not in here.voice.placed[0][1].body


REDIALS: dict[str, dict[str, Any]] = {
    "policy": {"redial": RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta(minutes=30))},
    "next number": {"further_numbers": [HOME]},
    "person": {},
}


@pytest.mark.parametrize("why", REDIALS)
async def test_another_call_to_the_person_is_a_trace_of_its_own_with_a_link(
    engine: ScriptedEngine, kept: InMemorySpanExporter, why: str
) -> None:
    job = await engine.enqueue(ANN, **REDIALS[why])
    await engine.send()
    with trace.get_tracer_provider().get_tracer("shop").start_as_current_span("somebody's webhook"):
        await engine.summarise(job, SessionStatus.BUSY)
    if why == "person":
        await engine.queue.redial(job.id)
    engine.clock.advance(timedelta(hours=1))
    await engine.send()
    await engine.summarise(job)
    (enqueue,), (redial,) = named(kept, "enqueue"), named(kept, "redial")
    posts, summaries = named(kept, "POST /callflows"), named(kept, "summary")
    assert [link.context.span_id for link in redial.links] == [enqueue.context and enqueue.context.span_id]
    assert redial.parent is None
    assert traces([enqueue, posts[0], summaries[0]]) == traces([enqueue])
    assert traces([redial, posts[1], summaries[1]]) == traces([redial])
    assert traces([enqueue]) != traces([redial])
    # A summary of the first POST that comes once more makes no span.
    await engine.summarise(job, SessionStatus.BUSY, number=1)
    assert len(named(kept, "summary")) == 2


KINDS = [kind for kind in VerdictKind if kind not in {VerdictKind.PLACED, VerdictKind.NOT_PLACED}]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_post_tells_its_verdict_and_never_a_text_of_an_answer(
    engine: ScriptedEngine, kept: InMemorySpanExporter, kind: VerdictKind
) -> None:
    engine.voice.answers = [
        Verdict(kind=kind, message=f"no call to {ANN}", code=-1008, http_status=400, session_id="s-1")
    ]
    await engine.enqueue(ANN)
    await engine.send()
    (post,) = named(kept, "POST /callflows")
    assert (told(post)["voiceflow.verdict"], told(post)["voiceflow.code"]) == (kind.value, -1008)
    is_fine = kind is VerdictKind.CREATED
    assert post.status.status_code is (StatusCode.UNSET if is_fine else StatusCode.ERROR)
    assert told(post).get("error.type") == (None if is_fine else kind.value)
    assert ANN[3:] not in post.to_json()


async def test_calls_that_are_not_created_are_told(engine: Engine, kept: InMemorySpanExporter) -> None:
    await SuppressionList(engine.store).add(HOME, reason="asked")
    await engine.enqueue(ANN, unique_key="order-42")
    await engine.enqueue(ANN, unique_key="order-42")
    with pytest.raises(SuppressedNumberError):
        await engine.enqueue(HOME)
    await engine.queue.cancel_batch("july")
    with pytest.raises(InvalidInputError):
        await engine.enqueue(ANN, batch_id="july")
    assert [told(span)["voiceflow.result"] for span in named(kept, "enqueue")] == ["created", "duplicate", "suppressed"]


async def test_each_call_of_many_has_a_trace(engine: Engine, kept: InMemorySpanExporter) -> None:
    await engine.queue.enqueue_many([CallRequest(flow=flow(number(place))) for place in range(20)])
    await engine.send(limit=20)
    assert len(traces(named(kept, "POST /callflows"))) == 20


async def test_a_trace_that_is_not_sampled_leaves_nothing_in_the_store(engine: Engine, provide: Provide) -> None:
    kept = provide(ALWAYS_OFF)
    job = await engine.enqueue(ANN)
    await engine.send()
    await engine.summarise(job)
    assert (await engine.queue.get(job.id)).trace is None
    assert not kept.get_finished_spans()


class Broken(SpanProcessor):
    """Fails as a program's own processor may."""

    def __init__(self, begins: int, ends: int) -> None:
        self.begins, self.ends = begins, ends

    def on_start(self, *_: Any, **__: Any) -> None:
        self.begins -= 1
        if self.begins < 0:
            raise RuntimeError("no span may begin")

    def on_end(self, *_: Any) -> None:
        self.ends -= 1
        if self.ends < 0:
            raise RuntimeError("no span may end")


@pytest.mark.parametrize("broken", [(each, 9) for each in range(6)] + [(9, each) for each in range(6)])
async def test_telemetry_that_fails_at_any_point_changes_nothing_for_a_call(
    engine: ScriptedEngine, provide: Provide, broken: tuple[int, int]
) -> None:
    provide(None, Broken(*broken))
    redial = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta())
    job = await engine.enqueue(ANN, redial=redial)
    await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)
    engine.clock.advance(timedelta(hours=1))
    await engine.send()
    await engine.summarise(job)
    assert (await engine.queue.get(job.id)).state is JobState.COMPLETED
    assert len(engine.voice.placed) == 2


@pytest.mark.parametrize("text", ["", "00", "00-x-y-z", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-1-2-01"])
async def test_a_trace_that_cannot_be_read_changes_nothing_for_a_call(
    engine: ScriptedEngine, kept: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("voiceflow_worker.core.tracing._traceparent", lambda _: text)
    job = await engine.enqueue(ANN)
    await engine.send()
    await engine.summarise(job)
    assert await engine.state(job) == "completed"
