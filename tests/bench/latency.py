"""Idle latency: the time from `enqueue` to the arrival of the POST at a sink, with a worker that waits for work.

    python -m tests.bench.latency                          Redis, SQLite in one process, SQLite across processes
    python -m tests.bench.latency --peers                  the same, and other queue libraries on Redis
    python -m tests.bench.latency --only redis --calls 50

The worker keeps its journal files. Redis has appendfsync always, SQLite synchronous=FULL. One call at a time, at
irregular moments, so that no moment suits the worker better than another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import anyio
from anyio.abc import ByteSendStream
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.bench.peers import PEERS, peer_command, plain_redis
from tests.bench.rung import client_of, request
from tests.bench.throughput import environment, store
from tests.support import sink as bare_sink
from voiceflow_worker import CallPolicy, CallQueue, Store, VoiceClient, Worker, open_store
from voiceflow_worker.backends.witness import JournalFiles
from voiceflow_worker.cli.opening import collect_less
from voiceflow_worker.core.worker import WorkerOptions
from voiceflow_worker.model.jobs.policy import OutcomeSource

SELF = (sys.executable, "-m", "tests.bench.latency")
CALLS = 200
WARM_UP = 10
PAUSE = (0.03, 0.13)
"""The least and the longest pause before a call, in seconds. The worker has settled the call before, and waits."""
WITHIN = 30.0
PLACES = {"redis": "redis", "sqlite, one process": "sqlite", "sqlite, two processes": "sqlite"}
"""The store of each measurement."""

Enqueue = Callable[[int], Awaitable[float]]
"""Enqueues a call, and returns when it began to."""


class Arrivals:
    """The POSTs that arrive at a sink in a process of its own, with the times of their last bytes."""

    def __init__(self, lines: BufferedByteReceiveStream) -> None:
        self._lines = lines

    async def next(self) -> float:
        """The time of the next POST, on the clock of `time.perf_counter`."""
        with anyio.fail_after(WITHIN):
            return float(await self._lines.receive_until(b"\n", 100))


@asynccontextmanager
async def stamping_sink() -> AsyncIterator[tuple[int, Arrivals]]:
    """A sink, by its port, and what arrives there."""
    async with child([*SELF, "sink"]) as (_, lines):
        yield int(await lines.receive_until(b"\n", 100)), Arrivals(lines)


@asynccontextmanager
async def child(command: Sequence[str]) -> AsyncIterator[tuple[ByteSendStream, BufferedByteReceiveStream]]:
    """A command in a process of its own: its stdin, and the lines that it prints."""
    async with await anyio.open_process(command, env=environment(), stdin=PIPE, stdout=PIPE, stderr=None) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, BufferedByteReceiveStream(process.stdout)
        finally:
            process.send_signal(signal.SIGTERM)
            with anyio.CancelScope(shield=True):
                await process.wait()


async def measure(enqueue: Enqueue, arrivals: Arrivals, *, calls: int) -> dict[str, float]:
    """The milliseconds of calls that are enqueued one by one."""
    pauses, times = random.Random(1), list[float]()
    for place in range(WARM_UP + calls):
        await anyio.sleep(pauses.uniform(*PAUSE))  # the idle time that is wanted
        began = await enqueue(place)
        times.append(1000 * (await arrivals.next() - began))
    kept = sorted(times[WARM_UP:])
    return {
        "p50_ms": round(statistics.median(kept), 2),
        "p99_ms": round(kept[(99 * len(kept)) // 100 - 1], 2),
        "most_ms": round(kept[-1], 2),
    }


async def of_worker(kind: str, *, calls: int) -> dict[str, float]:
    """The figures of this product on one store."""
    with store(PLACES[kind]) as url:
        async with stamping_sink() as (port, arrivals), open_store(url) as opened:
            queue = CallQueue(opened)

            async def enqueue(place: int) -> float:
                flow, began = request(place).flow, time.perf_counter()
                await queue.enqueue(flow)
                return began

            if kind != "sqlite, one process":
                async with child([*SELF, "worker", "--port", str(port), "--store", url]) as (_, lines):
                    await lines.receive_until(b"\n", 100)
                    return await measure(enqueue, arrivals, calls=calls)
            async with client_of(port) as client, anyio.create_task_group() as group:
                with tempfile.TemporaryDirectory() as folder:
                    worker = new_worker(opened, client, folder)
                    group.start_soon(worker.run)
                    found = await measure(enqueue, arrivals, calls=calls)
                    worker.stop()
            return found


async def of_peer(name: str, *, calls: int) -> dict[str, float]:
    """The figures of another library, on this product's transport."""
    with plain_redis() as url:
        async with stamping_sink() as (port, arrivals):
            where = ["--port", str(port), "--redis", url]
            async with (
                child([*peer_command(name, "serve"), *where]) as (_, served),
                child([*peer_command(name, "feed"), *where]) as (orders, fed),
            ):
                await served.receive_until(b"\n", 100)

                async def enqueue(_: int) -> float:
                    await orders.send(b"\n")
                    return float(await fed.receive_until(b"\n", 100))

                return await measure(enqueue, arrivals, calls=calls)


def new_worker(opened: Store, client: VoiceClient, folder: str) -> Worker:
    """A worker with journal files, and without a rate."""
    options = WorkerOptions(policy=CallPolicy(outcomes=OutcomeSource.NONE))
    return Worker(opened, client, rate=None, options=options, witness=JournalFiles(Path(folder)))


async def work(url: str, port: int) -> None:
    """Run a worker until SIGTERM."""
    async with open_store(url) as opened, client_of(port) as client:
        with tempfile.TemporaryDirectory() as folder:
            worker = new_worker(opened, client, folder)
            collect_less()  # as `voiceflow worker` does
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
            print("ready", flush=True)  # noqa: T201 - its parent reads this
            await worker.run()


class StampingSink(bare_sink.Sink):
    """Prints the time of each POST, when the last byte of it is there and before it is answered."""

    def data_received(self, data: bytes) -> None:
        at = time.perf_counter()
        waiting = len(self.buffer) + len(data)
        super().data_received(data)
        if len(self.buffer) < waiting:
            print(at, flush=True)  # noqa: T201 - its parent reads this


async def main() -> None:
    """Measure, or do the part of a child."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", nargs="?", choices=["sink", "worker"], help="of a child of this program")
    parser.add_argument("--only", default="", help="only the measurements whose name contains this")
    parser.add_argument("--peers", action="store_true", help="also the libraries of peers.py, without a journal")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--port", type=int)
    parser.add_argument("--store")
    wanted = parser.parse_args()
    match wanted.role:
        case "sink":
            await bare_sink.main(StampingSink)
        case "worker":
            await work(wanted.store, wanted.port)
        case _:
            for kind in [*PLACES, *(PEERS if wanted.peers else ())]:
                if wanted.only in kind:
                    found = await (of_worker if kind in PLACES else of_peer)(kind, calls=wanted.calls)
                    print(json.dumps({"what": kind, **found}), flush=True)  # noqa: T201


if __name__ == "__main__":
    anyio.run(main)
