"""Traces of the commands, as a collector gets them: whole across processes, and never in the way of a call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.instrumentation import auto_instrumentation
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.redis_server import free_port
from tests.support.stage import SECRET, stage
from tests.support.waiting import wait_until


def instrumented(collector: str) -> dict[str, str]:
    """The environment in which `opentelemetry-instrument` starts a command."""
    return {
        "PYTHONPATH": os.pathsep.join((str(Path(auto_instrumentation.__file__).parent), str(Path.cwd()))),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_SERVICE_NAME": "voiceflow",
        "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BSP_EXPORT_TIMEOUT": "1000",
    }  # fmt: skip


REDIAL = ("--redial-on", "busy", "--redial-max", "1", "--redial-after", "0s")


class Collector:
    """An OTLP collector: it keeps what it gets, with the service that it came from."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.bodies: list[bytes] = []

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            (service,) = [pair.value.string_value for pair in each.resource.attributes if pair.key == "service.name"]
            self.spans += [(service, span) for scope in each.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[Span]:
        return sorted((span for _, span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector, and its address."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_enqueue_worker_and_receiver_send_one_trace_and_a_redial_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as (collector, address):
        for name, value in instrumented(address).items():
            monkeypatch.setenv(name, value)
        with stage(tmp_path) as scene:
            scene.order("script", [{"outcome": "BUSY", "times": 1}, {"outcome": "COMPLETED"}])
            scene.campaign(1, *REDIAL)
            with scene.worker():
                wait_until(lambda: len(collector.named("summary")) == 2, lambda: str(collector.spans))
    (enqueue,), (redial,) = collector.named("enqueue"), collector.named("redial")
    posts, summaries = collector.named("POST /callflows"), collector.named("summary")
    assert [span.trace_id for span in (posts[0], summaries[0])] == [enqueue.trace_id] * 2
    assert [span.trace_id for span in (posts[1], summaries[1])] == [redial.trace_id] * 2
    assert [link.span_id for link in redial.links] == [enqueue.span_id]
    assert redial.trace_id != enqueue.trace_id
    assert {service for service, _ in collector.spans} == {"voiceflow"}
    for private in (b"6580000000", b"Customer", b"test-key", SECRET.encode(), b"campaign"):
        assert not any(private in body for body in collector.bodies), private


@pytest.mark.parametrize(
    "variables",
    [{}, pytest.param({"OTEL_SDK_DISABLED": "true"}, marks=pytest.mark.slow)],
    ids=["no collector", "turned off"],
)
def test_traces_that_cannot_be_sent_change_nothing_for_a_command(tmp_path: Path, variables: dict[str, str]) -> None:
    file = tmp_path / "people.csv"
    file.write_text("destination\n+6580000000\n", encoding="utf-8")
    options = ("--say", "Hello.", "--voice-profile", "en-IE-EmilyNeural", "--source", "+6531234567", "--json")
    store = f"sqlite:///{tmp_path / 'calls.db'}"
    here = {name: value for name, value in os.environ.items() if not name.startswith(("VOICEFLOW_", "OTEL_"))}
    named = instrumented(f"http://127.0.0.1:{free_port()}") | {"VOICEFLOW_STORE": store} | variables
    command = [sys.executable, "-m", "voiceflow_worker", "enqueue", str(file), *options]
    done = subprocess.run(
        command, check=False, env={**here, **named}, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert (done.returncode, json.loads(done.stdout)["enqueued"]) == (0, 1), done.stderr
