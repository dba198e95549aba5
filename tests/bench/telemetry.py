"""What traces cost: the processor time of whole calls, with traces on and off, in alternating pairs.

Run with `python -m tests.bench.telemetry`. Each run is a process of its own: it enqueues calls, sends them to a sink,
and takes their summaries at the receiver's ASGI app. `on` traces as the commands do, with the sink as the collector;
`every` traces every call; `off` has no tracer provider, and `none` has no tracing module either.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import anyio

from tests.bench.rung import AT_ONCE, WARM_UP, client_of, request
from tests.bench.throughput import sink
from tests.webhooks.receiving import events_app
from voiceflow_worker import CallPolicy, CallQueue, Job, JobState, Worker, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.cli.opening import collect_less
from voiceflow_worker.core import tracing
from voiceflow_worker.core.ports.reading import count_states
from voiceflow_worker.core.settling.settle import Settler

SECRET = "Bearer of-the-bench-of-calls"


def tracing_of(traces: str) -> AbstractContextManager[None]:
    """Send traces as a command does, or not."""
    if traces not in {"on", "every"}:
        return nullcontext()
    from voiceflow_worker.service.telemetry import sending_traces

    return sending_traces(sampler_is_named=traces == "every")


def take_out() -> None:
    """Replace the functions of the tracing module by ones that do nothing."""
    done: Any = tracing
    done.post_begun = done.post_ended = done.end = done.summarised = lambda *_, **__: None
    done.redialled = lambda _, new: (new, None)
    done.began = lambda: 0


async def summarise(app: Any, job: Job) -> None:
    """Give the summary of a call to the receiver."""
    post = job.posts[-1]
    body = json.dumps(
        {
            "namespace": "VOICE", "eventType": "SESSION_SUMMARY", "subAccountId": "bench",
            "payload": {
                "sessionId": post.session_id, "sessionStatus": "COMPLETED", "clientRequestId": post.client_request_id,
                "initiatedTimestamp": "2026-11-26T10:00:00Z", "startTime": "2026-11-26T10:00:05Z",
                "endTime": "2026-11-26T10:00:30Z", "callCount": 1,
            },
        }
    ).encode()  # fmt: skip
    headers = [(b"authorization", SECRET.encode()), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "POST", "path": "/webhooks/8x8", "raw_path": b"/webhooks/8x8", "query_string": b"",
        "headers": [*headers, (b"content-length", str(len(body)).encode())], "client": ("127.0.0.1", 1),
        "scheme": "http", "server": ("127.0.0.1", 80), "http_version": "1.1", "root_path": "",
        "asgi": {"version": "3.0"},
    }  # fmt: skip
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    await app(scope, receive, send)
    assert told[0]["status"] == 200, told


async def lives(wanted: argparse.Namespace) -> dict[str, float]:
    """The processor time of whole calls, in microseconds a call."""
    if wanted.traces == "none":
        take_out()
    began = 0.0
    with tempfile.TemporaryDirectory() as folder, tracing_of(wanted.traces):
        async with open_store(f"sqlite:///{folder}/calls.db") as store, client_of(wanted.port) as client:
            queue = CallQueue(store)
            app = events_app(Settler(store, CallPolicy()), secret=SECRET)

            async def live(first: int, count: int) -> None:
                jobs = []
                for place in range(first, first + count):
                    each = request(place)
                    jobs.append(await queue.enqueue(each.flow, batch_id="bench"))
                worker = Worker(
                    store,
                    client,
                    rate=wanted.rate,
                    concurrency=AT_ONCE,
                    local_journal=JournalFiles(Path(folder) / "journal"),
                )
                async with anyio.create_task_group() as group:
                    group.start_soon(worker.run)
                    while (await count_states(store, "default"))[JobState.SUBMITTED] < count:  # noqa: ASYNC110
                        await anyio.sleep(0.2)
                    worker.stop()
                sent = await queue.find(states=[JobState.SUBMITTED], limit=None)
                for start in range(0, count, AT_ONCE):
                    async with anyio.create_task_group() as group:
                        for job in sent[start : start + AT_ONCE]:
                            group.start_soon(summarise, app, job)

            await live(0, WARM_UP if wanted.rate is None else 5)
            collect_less()
            began = time.process_time()
            await live(WARM_UP, wanted.calls)
            done = (await count_states(store, "default"))[JobState.COMPLETED]
            if done < wanted.calls:
                raise SystemExit(f"only {done} calls were completed")
    # With the sending of the last spans.
    return {"microseconds": (time.process_time() - began) / wanted.calls * 1e6}


def measured(port: int, traces: str, wanted: argparse.Namespace) -> float:
    """One run, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.telemetry", "--run", "--port", str(port), "--traces", traces]
    command += ["--calls", str(wanted.calls), *([] if wanted.rate is None else ["--rate", str(wanted.rate)])]
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return float(json.loads(told.stdout)["microseconds"])


def main() -> None:
    """Measure pairs, or one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--port", type=int)
    parser.add_argument("--traces", choices=["on", "every", "off", "none"], default="on")
    wanted = parser.parse_args()
    if wanted.run:
        gc.collect()
        print(json.dumps(anyio.run(lives, wanted)))  # noqa: T201
        return
    with sink() as port:
        for more, less in (("on", "off"), ("every", "off"), ("off", "none")):
            pairs = [(measured(port, more, wanted), measured(port, less, wanted)) for _ in range(wanted.pairs)]
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{more}/{less}: {ratio:.3f}  " + " ".join(f"{a:.0f}/{b:.0f}" for a, b in pairs), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
