"""Function calls: how many Python functions run for one enqueue, and for one paced call, and how often the loop turns.

    ./dev bench function_calls [--calls 30] [--rate 10] [--top N]

`sys.setprofile` counts each function that begins or goes on, on the thread of the event loop; calls into C do not
count. The first calls, which fill caches, are left out. The enqueue is `CallQueue.enqueue` of a flow of one text. The
paced call is one of a worker with journal files, whose POSTs a sink answers at once: all that runs from the first lease
to the last stored verdict, for each call. So the figures are the same on each machine, but for what a worker does once
a second. With a `--port` of a sink and a `--store`, only a paced call is measured there, and printed as JSON
(`./dev bench paced`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import anyio

from bench.rung import client_of, request
from bench.throughput import sink
from voiceflow_worker import CallPolicy, CallQueue, Store, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.core.worker import Worker, WorkerOptions
from voiceflow_worker.model.jobs.policy import OutcomeSource

WARM_UP = 5
SETTLED = 2.0
"""Seconds until a worker sends steadily."""


@contextmanager
def counted(calls: Counter[CodeType]) -> Generator[None]:
    """Count the functions that run within this block."""

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls[frame.f_code] += 1

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


async def enqueued(store: Store, calls: int) -> tuple[float, Counter[CodeType]]:
    """The median of the function calls of one enqueue, and those of all."""
    queue, each, ran = CallQueue(store, "enqueued"), list[int](), Counter[CodeType]()
    for place in range(WARM_UP + calls):
        flow, found = request(place).flow, Counter[CodeType]()
        with counted(found):
            await queue.enqueue(flow)
        if place >= WARM_UP:
            each.append(found.total())
            ran += found
    return statistics.median(each), ran


async def paced(store: Store, calls: int, journal: Path, *, rate: float, port: int) -> dict[str, Any]:
    """The function calls and the turns of the loop of one call of a paced worker, and what ran."""
    policy = CallPolicy(outcomes=OutcomeSource.NONE)
    queue, ran, turns = CallQueue(store, "paced", policy=policy), Counter[CodeType](), count()
    loop: Any = asyncio.get_running_loop()
    turn = loop._run_once

    def counts_turn() -> None:
        next(turns)
        turn()

    async with client_of(port) as client:
        options = WorkerOptions(policy=policy)
        worker = Worker(store, client, queue="paced", rate=rate, options=options, local_journal=JournalFiles(journal))
        await queue.enqueue_many([request(place) for place in range(calls + int(SETTLED * rate) + 20)])
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await anyio.sleep(SETTLED)
            before, loop._run_once = worker.counts.verdicts.total(), counts_turn
            with counted(ran):
                await anyio.sleep(calls / rate)
            turned, sent = next(turns), worker.counts.verdicts.total() - before
            group.cancel_scope.cancel()
    return {"functions": (ran.total() - turned) / sent, "turns": turned / sent, "ran": ran}


async def measured(url: str, folder: Path, wanted: argparse.Namespace, port: int) -> None:
    """Measure on one store, and print."""
    async with open_store(url) as store:
        enqueues = None if wanted.port else await enqueued(store, wanted.calls)
        found = await paced(store, wanted.calls, folder / url.partition(":")[0], rate=wanted.rate, port=port)
    ran = found.pop("ran")
    if enqueues is None:
        print(json.dumps(found))  # noqa: T201
        return
    told = {
        f"one enqueue: {enqueues[0]:.0f} function calls": enqueues[1],
        f"a paced call: {found['functions']:.0f} function calls, {found['turns']:.1f} turns of the loop": ran,
    }
    for line, each in told.items():
        print(f"{url.partition(':')[0]}: {line}")  # noqa: T201
        for code, times in each.most_common(wanted.top):
            print(f"    {times / wanted.calls:6.1f} {Path(code.co_filename).name}:{code.co_firstlineno} {code.co_name}")  # noqa: T201


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--top", type=int, default=0, help="show the functions that run most often for a call")
    parser.add_argument("--port", type=int, help="of a sink")
    parser.add_argument("--store", help="the URL of the store")
    wanted = parser.parse_args()
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        port = wanted.port or opened.enter_context(sink())
        for url in [wanted.store] if wanted.store else [f"sqlite:///{folder}/calls.db", "memory://"]:
            anyio.run(measured, url, Path(folder), wanted, port)


if __name__ == "__main__":
    main()
