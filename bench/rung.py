"""One rung of the escalation of `./dev bench`: POSTs or calls per second of this process's own processor time.

A process of its own for each measurement: `rung.py RUNG --port PORT --store URL --calls N` prints JSON. What is done
once (imports, connections, enqueueing) is not measured, and the garbage of it is collected before.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx

from tests.support.flows import flow, number
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    CallRequest,
    CountryWindows,
    JobState,
    VoiceClient,
    Worker,
    open_store,
)
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.enqueue import enqueue_file
from voiceflow_worker.cli.opening import collect_less
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.core.worker import WorkerOptions
from voiceflow_worker.gateway.first_byte import FirstByte
from voiceflow_worker.gateway.network import Network, Timeouts
from voiceflow_worker.gateway.transports import open_transports
from voiceflow_worker.gateway.wire import Wire
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.reports.verdict import Departure, VerdictKind

AT_ONCE = 50
WARM_UP = 200
BODY = (
    '{"callflow":[{"action":"makeCall","params":{"source":"+6531234567","destination":"+6587654321"}},'
    '{"action":"say","params":{"text":"Hello, we expect you at 10:30.","voiceProfile":"en-IE-EmilyNeural"}}]}'
)


@dataclass
class Stopwatch:
    """Times on the clock and on the processor, from its beginning."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def report(self, calls: int) -> dict[str, float]:
        """The rates since the beginning."""
        return {
            "per_cpu_second": calls / (time.process_time() - self.cpu),
            "per_second": calls / (time.perf_counter() - self.wall),
        }


async def timed(post: Callable[[], Awaitable[None]], calls: int) -> dict[str, float]:
    """The rates of a POST, `AT_ONCE` in flight."""

    async def caller(turns: Iterator[int]) -> None:
        for _ in turns:
            await post()

    async def run(count: int) -> None:
        turns = iter(range(count))
        await asyncio.gather(*(caller(turns) for _ in range(AT_ONCE)))

    await run(WARM_UP)
    gc.collect()
    watch = Stopwatch()
    await run(calls)
    return watch.report(calls)


async def at_once() -> Departure:
    """The step before the first byte of a POST for which nothing is to be done."""
    return Departure(datetime.now(UTC), math.inf)


class OwnConnections(httpx.AsyncBaseTransport):
    """The product's own connections as a transport of httpx, for programs that POST with `client.post`."""

    def __init__(self, port: int) -> None:
        wire = Wire("bench", "bench", base_url=f"http://127.0.0.1:{port}")
        timeouts = Timeouts(5.0, 30.0)
        self.posts, _ = open_transports(
            Network(), wire.calls, headers=wire.post_headers, timeouts=timeouts, limit=AT_ONCE
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """POST the body of the request, whatever its address."""
        exchange = await self.posts.post(await request.aread(), FirstByte(at_once, valid_until=None))
        exchange.release(keep=True)
        return httpx.Response(exchange.answer.status, content=exchange.answer.body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.posts.aclose()


async def bare(wanted: argparse.Namespace) -> dict[str, float]:
    """`client.post` of httpx over the connections of the product."""
    return await loop_of_posts(OwnConnections(wanted.port), wanted)


async def stock(wanted: argparse.Namespace) -> dict[str, float]:
    """`client.post` of httpx over its own pool, as anybody gets it."""
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    return await loop_of_posts(httpx.AsyncHTTPTransport(limits=limits, trust_env=False), wanted)


async def loop_of_posts(transport: httpx.AsyncBaseTransport, wanted: argparse.Namespace) -> dict[str, float]:
    """The rates of `client.post` over a transport."""
    url = f"http://127.0.0.1:{wanted.port}/api/v1/subaccounts/bench/callflows"
    headers = {"Authorization": "Bearer bench", "Content-Type": "application/json"}
    body = BODY.encode()
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:

        async def post() -> None:
            response = await client.post(url, content=body, headers=headers)
            assert response.status_code == 200, response

        return await timed(post, wanted.calls)


async def gateway(wanted: argparse.Namespace) -> dict[str, float]:
    """The POST alone: the product's own client, with evidence and verdict, without an engine."""
    now = datetime.now(UTC)
    placement = Placement(body=BODY, client_request_id="default.1.1", valid_until=now + timedelta(hours=1))
    async with client_of(wanted.port) as client:

        async def post() -> None:
            verdict = await client.place(placement, before_first_byte=at_once)
            assert verdict.kind is VerdictKind.CREATED, verdict

        return await timed(post, wanted.calls)


async def worker(wanted: argparse.Namespace) -> dict[str, float]:
    """A worker that drains a queue."""
    policy = CallPolicy(outcomes=OutcomeSource.NONE)
    async with open_store(wanted.store) as store, client_of(wanted.port) as client, journal_of(wanted) as local_journal:
        queue = CallQueue(store, policy=policy)

        async def fill(first: int, count: int) -> None:
            for start in range(first, first + count, 500):
                await queue.enqueue_many([request(place) for place in range(start, min(start + 500, first + count))])
            gc.collect()

        def new_worker() -> Worker:
            options = WorkerOptions(policy=policy)
            return Worker(store, client, rate=None, concurrency=AT_ONCE, options=options, local_journal=local_journal)

        await fill(0, WARM_UP)
        await new_worker().drain()
        await fill(WARM_UP, wanted.calls)
        collect_less()  # as `voiceflow worker` does
        watch = Stopwatch()
        await new_worker().drain()
        rates = watch.report(wanted.calls)
        accepted = (await count_states(store, "default"))[JobState.ACCEPTED]
        if accepted != WARM_UP + wanted.calls:
            raise SystemExit(f"{accepted} of {WARM_UP + wanted.calls} calls were accepted")
        return rates


async def ready(wanted: argparse.Namespace) -> dict[str, float]:
    """Ready flows through `enqueue_many`, 1,000 at a time."""
    requests = [request(place) for place in range(WARM_UP + wanted.calls)]
    async with open_store(wanted.store) as store:
        queue = CallQueue(store)
        await queue.enqueue_many(requests[:WARM_UP])
        gc.collect()
        watch = Stopwatch()
        for start in range(WARM_UP, len(requests), 1000):
            await queue.enqueue_many(requests[start : start + 1000])
        return watch.report(wanted.calls)


async def rows(wanted: argparse.Namespace) -> dict[str, float]:
    """The rows of a CSV: read, checked, filled into a template, and enqueued."""
    options = CampaignOptions(
        template=FlowTemplate.speaking("Hello {{name}}, we expect you at {{appointment}}."),
        source="+6531234567",
        voice_profile="en-IE-EmilyNeural",
        window=CountryWindows.parse("any"),
    )

    def campaign(folder: str, first: int, count: int) -> Path:
        path = Path(folder) / f"campaign-{first}.csv"
        lines = [f"{number(place)},Customer {place},10:30\n" for place in range(first, first + count)]
        path.write_text("destination,name,appointment\n" + "".join(lines), encoding="utf-8")
        return path

    with tempfile.TemporaryDirectory() as folder:
        async with open_store(wanted.store) as store:
            queue = CallQueue(store)
            await enqueue_file(queue, campaign(folder, 0, WARM_UP), options, now=store.clock.now())
            path = campaign(folder, WARM_UP, wanted.calls)
            collect_less()  # as `voiceflow enqueue` does
            watch = Stopwatch()
            report = await enqueue_file(queue, path, options, now=store.clock.now())
            rates = watch.report(wanted.calls)
    if report.enqueued != wanted.calls:
        raise SystemExit(f"{report.enqueued} of {wanted.calls} rows were enqueued")
    return rates


def request(place: int, *, not_before: datetime | None = None) -> CallRequest:
    """One call of the campaign."""
    text = f"Hello Customer {place}, we expect you at 10:30."
    return CallRequest(flow=flow(number(place), text), not_before=not_before)


def client_of(port: int) -> VoiceClient:
    """The product's client of the sink."""
    return VoiceClient("bench", "bench", base_url=f"http://127.0.0.1:{port}", concurrency=AT_ONCE)


@asynccontextmanager
async def journal_of(wanted: argparse.Namespace) -> AsyncIterator[JournalFiles | None]:
    """Journal files in a folder of their own, if the rung has the rollback guard."""
    if not wanted.guard:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield JournalFiles(Path(folder))


def main() -> None:
    """Measure one rung."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rung", choices=["stock", "bare", "gateway", "worker", "ready", "rows"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--store")
    parser.add_argument("--guard", action="store_true")
    wanted = parser.parse_args()
    rungs = {"stock": stock, "bare": bare, "gateway": gateway, "worker": worker, "ready": ready, "rows": rows}
    print(json.dumps(anyio.run(rungs[wanted.rung], wanted)))  # noqa: T201 - its parent reads this


if __name__ == "__main__":
    main()
