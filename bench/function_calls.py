"""Function calls: how many Python functions run for one enqueue, and for one paced call from its lease to its verdict.

    ./dev bench function_calls [--calls 30] [--top N]

`sys.setprofile` counts each function that begins or goes on, on the thread of the event loop; calls into C do not
count. The first calls, which fill caches, are left out. The enqueue is `CallQueue.enqueue` of a flow of one text. The
paced call is one of a worker at 10 a second with journal files, whose POSTs are answered at once: all that runs from
the first lease to the last stored verdict, for each call. So the figures are the same on each machine, but for what a
worker does once a second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import anyio

from bench.rung import request
from tests.support.voices import ScriptedVoice, created
from voiceflow_worker import CallPolicy, CallQueue, Store, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.core.worker import Worker, WorkerOptions
from voiceflow_worker.model.jobs.policy import OutcomeSource

RATE = 10
WARM_UP = 5


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


async def paced(store: Store, calls: int, journal: Path) -> tuple[float, Counter[CodeType]]:
    """The function calls of one call of a paced worker, and those of all."""
    policy = CallPolicy(outcomes=OutcomeSource.NONE)
    queue, voice, ran = (
        CallQueue(store, "paced", policy=policy),
        ScriptedVoice(lambda _: created()),
        Counter[CodeType](),
    )
    options = WorkerOptions(policy=policy)
    worker = Worker(store, voice, queue="paced", rate=RATE, options=options, local_journal=JournalFiles(journal))
    await queue.enqueue_many([request(place) for place in range(2 * (WARM_UP + RATE + calls))])

    sent = 0
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        await anyio.sleep(1 + WARM_UP / RATE)
        began = len(voice.placed)
        with counted(ran):
            await anyio.sleep(calls / RATE)
        sent = len(voice.placed) - began
        group.cancel_scope.cancel()
    return ran.total() / sent, ran


async def measured(kind: str, folder: Path, calls: int, top: int) -> None:
    """Measure on one store, and print."""
    url = "memory://" if kind == "memory" else f"sqlite:///{folder}/calls.db"
    async with open_store(url) as store:
        figures = {
            "one enqueue": await enqueued(store, calls),
            "a paced call, from its lease to its stored verdict": await paced(store, calls, folder / kind),
        }
    for what, (count, ran) in figures.items():
        print(f"{kind}: {what}: {count:.0f} function calls")  # noqa: T201
        for code, times in ran.most_common(top):
            print(f"    {times / calls:6.1f} {Path(code.co_filename).name}:{code.co_firstlineno} {code.co_name}")  # noqa: T201


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--top", type=int, default=0, help="show the functions that run most often for a call")
    wanted = parser.parse_args()
    for kind in ("sqlite", "memory"):
        with tempfile.TemporaryDirectory() as folder:
            anyio.run(measured, kind, Path(folder), wanted.calls, wanted.top)


if __name__ == "__main__":
    main()
