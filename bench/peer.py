"""One peer: a worker of another queue library on Redis, in a process of its own, for `peers.py`.

    peer.py NAME work|enqueue|run|wake --port PORT --redis URL --transport shipped|fast --calls N

Each library is used as its own page shows it, with its defaults (results are kept as long as it keeps them), 50 tasks
in flight, and asyncio. A task is one `client.post` of httpx. `shipped` is the client that httpx makes by itself; `fast`
is httpx's over the connections of this product. The libraries are in the extra `bench`, and nowhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any

import httpx

from bench.rung import AT_ONCE, BODY, WARM_UP, OwnConnections, Stopwatch
from bench.sink import Sink

PAGE = 1000

Post = Callable[[str], Awaitable[None]]
Enqueue = Callable[[Sequence[str]], Awaitable[None]]
"""Enqueues a task for each body."""
Run = Callable[[], Awaitable[None]]
"""Runs the worker, for good."""
Peer = Callable[[str, Post], AbstractAsyncContextManager[tuple[Enqueue, Run]]]


@asynccontextmanager
async def taskiq_streams(url: str, post: Post) -> AsyncIterator[tuple[Enqueue, Run]]:
    """The broker with streams and acknowledgements, and kept results, as on the first page of taskiq-redis."""
    redis = import_module("taskiq_redis")
    broker = redis.RedisStreamBroker(url=url).with_result_backend(redis.RedisAsyncResultBackend(redis_url=url))
    async with _taskiq(broker, post) as found:
        yield found


@asynccontextmanager
async def taskiq_list(url: str, post: Post) -> AsyncIterator[tuple[Enqueue, Run]]:
    """The broker with a list: no acknowledgements, no results. A task in flight is lost with its worker."""
    async with _taskiq(import_module("taskiq_redis").ListQueueBroker(url=url), post) as found:
        yield found


@asynccontextmanager
async def _taskiq(broker: Any, post: Post) -> AsyncIterator[tuple[Enqueue, Run]]:
    async def call(body: str) -> None:
        await post(body)

    task = broker.task(task_name="call")(call)

    async def one(body: str) -> None:
        await task.kiq(body)

    async def run() -> None:
        await import_module("taskiq.api").run_receiver_task(broker, max_async_tasks=AT_ONCE)

    await broker.startup()
    yield _one_by_one(one), run
    await broker.shutdown()


@asynccontextmanager
async def streaq(url: str, post: Post) -> AsyncIterator[tuple[Enqueue, Run]]:
    """streaQ, which has an `enqueue_many`."""
    worker, producer = (
        import_module("streaq").Worker(redis_url=url, concurrency=AT_ONCE, handle_signals=False) for _ in range(2)
    )

    async def call(body: str) -> None:
        await post(body)

    worker.task(call)
    task = producer.task(call)

    async def enqueue(bodies: Sequence[str]) -> None:
        if len(bodies) == 1:
            await task.enqueue(bodies[0])
        else:
            await producer.enqueue_many([task.enqueue(body) for body in bodies])

    async def run() -> None:
        await worker.run_async()

    async with producer:
        yield enqueue, run


PEERS: dict[str, Peer] = {
    "taskiq, streams and results": taskiq_streams,
    "taskiq, list": taskiq_list,
    "streaq": streaq,
}


def _one_by_one(one: Callable[[str], Awaitable[None]]) -> Enqueue:
    """For a library without a way to enqueue many: one after the other, 20 at a time."""

    async def enqueue(bodies: Sequence[str]) -> None:
        if len(bodies) == 1:
            await one(bodies[0])
            return
        turns = iter(bodies)

        async def some() -> None:
            for body in turns:
                await one(body)

        await asyncio.gather(*(some() for _ in range(20)))

    return enqueue


def client_with(transport: str, port: int) -> httpx.AsyncClient:
    """An HTTP client as shipped, or on the connections of this product."""
    if transport == "shipped":
        return httpx.AsyncClient(trust_env=False)
    return httpx.AsyncClient(transport=OwnConnections(port), trust_env=False)


class Poster:
    """What a task does. `rates` are those of all calls after the warm-up, when the last one is answered."""

    def __init__(self, client: httpx.AsyncClient, port: int, calls: int) -> None:
        self._client = client
        self._url = f"http://127.0.0.1:{port}/api/v1/subaccounts/bench/callflows"
        self._headers = {"Authorization": "Bearer bench", "Content-Type": "application/json"}
        self._calls = calls
        self._answered = 0
        self._watch = Stopwatch()
        self.rates: asyncio.Future[dict[str, float]] = asyncio.get_running_loop().create_future()

    async def post(self, body: str) -> None:
        """One call."""
        response = await self._client.post(self._url, content=body.encode(), headers=self._headers)
        if response.status_code != 200:
            raise SystemExit(f"the sink answered {response.status_code}")
        self._answered += 1
        if self._answered == WARM_UP:
            gc.collect()
            self._watch = Stopwatch()
        if self._answered == WARM_UP + self._calls:
            self.rates.set_result(self._watch.report(self._calls))


class TimedSink(Sink):
    """A sink that notes when something came."""

    came: float = 0.0
    arrived: asyncio.Event

    def data_received(self, data: bytes) -> None:
        """Note the time before anything else."""
        TimedSink.came = time.monotonic()
        super().data_received(data)
        TimedSink.arrived.set()


async def waits(enqueue: Callable[[int], Awaitable[object]], calls: int) -> list[float]:
    """The milliseconds from the return of `enqueue` to the arrival of each POST at the sink of this process."""
    found = list[float]()
    for place in range(calls):
        TimedSink.arrived = asyncio.Event()
        await enqueue(place)
        began = time.monotonic()
        await asyncio.wait_for(TimedSink.arrived.wait(), 60)
        found.append(1000 * (TimedSink.came - began))
        await asyncio.sleep(random.uniform(0.1, 0.3))
    return found


async def wake(wanted: argparse.Namespace) -> None:
    """Print the waits for a worker in another process that has nothing else to do."""
    server = await asyncio.get_running_loop().create_server(TimedSink, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    command = [sys.executable, "-m", "bench.peer", wanted.name, "run", "--port", port, "--redis", wanted.redis]
    process = await asyncio.create_subprocess_exec(*command)
    async with PEERS[wanted.name](wanted.redis, _nothing) as (enqueue, _):
        print(json.dumps(await waits(lambda _: enqueue([BODY]), wanted.calls)), flush=True)  # noqa: T201
        process.kill()
        await process.wait()
        os._exit(0)


async def _nothing(_: str) -> None:
    """What a task does where only a worker in another process runs it."""


async def run(wanted: argparse.Namespace) -> None:
    """Run a worker until it is killed."""
    async with (
        client_with("shipped", wanted.port) as client,
        PEERS[wanted.name](wanted.redis, Poster(client, wanted.port, 10**9).post) as (_, work),
    ):
        await work()


async def measure(wanted: argparse.Namespace) -> None:
    """Print the rates of the worker, or of enqueueing, by this process's own processor time; then leave at once."""
    async with client_with(wanted.transport, wanted.port) as client:
        poster = Poster(client, wanted.port, wanted.calls)
        async with PEERS[wanted.name](wanted.redis, poster.post) as (enqueue, run):
            await enqueue([BODY] * WARM_UP)
            gc.collect()
            watch = Stopwatch()
            for start in range(0, wanted.calls, PAGE):
                await enqueue([BODY] * min(PAGE, wanted.calls - start))
            rates = watch.report(wanted.calls)
            if wanted.what == "work":
                worker = asyncio.ensure_future(run())
                rates = await poster.rates
                worker.cancel()
            print(json.dumps(rates), flush=True)  # noqa: T201 - its parent reads this
            os._exit(0)  # without the farewells of the library, which may take seconds


def main() -> None:
    """Measure one peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("what", choices=["work", "enqueue", "run", "wake"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--transport", choices=["shipped", "fast"], default="fast")
    parser.add_argument("--calls", type=int, default=5000)
    wanted = parser.parse_args()
    logging.disable(logging.INFO)
    asyncio.run({"run": run, "wake": wake}.get(wanted.what, measure)(wanted))


if __name__ == "__main__":
    main()
