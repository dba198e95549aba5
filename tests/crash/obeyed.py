"""Holds, cancels and opt-outs against workers at full speed: once a command has returned, no call leaves against it.

`python -m tests.crash.obeyed --orders 10000 --store redis`. Workers are processes; each writes down the time on the
machine's clock just before it hands a POST to its socket. One worker at a time is stopped and started anew, and a new
worker takes five seconds to prepare its first calls. Every other worker connects over httpx, which takes seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from asyncio import selector_events
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
from anyio.abc import SocketStream

from tests.crash.rollbacks import opened
from tests.crash.seeded_defects import with_seeded_defect
from tests.support.endpoint import Endpoint, Received, answering
from tests.support.flows import flow, number
from tests.support.processes import Process
from tests.support.stores import DURABLE
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, VoiceClient, Worker, WorkerOptions, open_store
from voiceflow_worker import queue as queue_module
from voiceflow_worker.core import suppression as suppression_module
from voiceflow_worker.core import writes
from voiceflow_worker.core.ports.controls import GATES
from voiceflow_worker.core.sending.submit import Dispatch, Submitter
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.model.reports.verdict import PostProgress

CALLS = 12
"""Calls of each order's batch: some wait, some are prepared, some are on their way when the order comes."""
WORKERS = 2
LIFE = 40
"""Orders between two changes of a worker."""
PREPARED_AFTER = 5.0
POLICY = CallPolicy(submit_window=timedelta(seconds=8), outcomes=OutcomeSource.NONE)
SABOTAGE = ("no-gates", "no-waiting", "no-suppression", "no-leave-by")
SLOWEST = 3.5
"""The seconds that connecting over httpx takes at most."""
READY = "at work"
KINDS = ("hold the queue", "hold a batch", "cancel a batch", "opt out")


@dataclass
class Ordered:
    """An order: from when until when nothing of what it concerns may leave, in nanoseconds of the machine's clock."""

    kind: str
    batch: str
    numbers: frozenset[str] | None = None
    since: int = 0
    until: int | None = None

    def forbids(self, left: Left) -> bool:
        """Whether a POST left against this order."""
        ours = self.kind == "hold the queue" or (
            left.destination in self.numbers if self.numbers is not None else left.batch == self.batch
        )
        return ours and left.at > self.since and (self.until is None or left.at < self.until)


@dataclass(frozen=True, slots=True)
class Left:
    """A POST that was given to a socket."""

    at: int
    destination: str
    batch: str


@dataclass
class Trial:
    """Workers, and the person who orders."""

    url: str
    endpoint: Endpoint
    folder: Path
    chance: random.Random
    seeded_defect: str | None
    workers: list[Process] = field(default_factory=list[Process])
    logs: Any = field(default_factory=count)
    orders: list[Ordered] = field(default_factory=list[Ordered])

    async def start(self) -> None:
        """Start a worker, and wait until it works: on a busy machine that takes longer than many orders."""
        place = next(self.logs)
        log, way = self.folder / f"{place}.posts", "httpx" if place % 2 else "ours"
        arguments = [
            "worker",
            self.url,
            self.endpoint.url.partition("/hooks")[0],
            str(log),
            self.seeded_defect or "",
            way,
        ]
        worker = Process(*arguments, module="tests.crash.obeyed")
        self.workers.append(worker)
        await asyncio.to_thread(worker.wait_for, READY)

    async def change_a_worker(self) -> None:
        worker = self.workers.pop(0)
        await self.start()
        await asyncio.to_thread(worker.end)

    async def order(self, queue: CallQueue, numbers: Sequence[str]) -> None:
        """Hand in some calls, and when some of them are on their way, give an order."""
        kind, batch = self.chance.choice(KINDS), f"batch-{len(self.orders)}"
        await queue.enqueue_many(CallRequest(flow=flow(each), batch_id=batch) for each in numbers)
        await asyncio.sleep(self.chance.uniform(0, 0.03))
        ordered = Ordered(kind, batch)
        match kind:
            case "hold the queue":
                await queue.hold(reason="lunch")
            case "hold a batch":
                await queue.hold(batch_id=batch, reason="lunch")
            case "cancel a batch":
                await queue.cancel_batch(batch)
            case _:
                ordered.numbers = frozenset(self.chance.sample(list(numbers), CALLS // 2))
                await SuppressionList(queue.store).add(*ordered.numbers, reason="asked not to be called")
        ordered.since = time.monotonic_ns()
        self.orders.append(ordered)
        if kind.startswith("hold"):
            await asyncio.sleep(self.chance.uniform(0, 0.02))
            ordered.until = time.monotonic_ns()
            await queue.resume(batch_id=None if kind == "hold the queue" else batch)

    def left(self) -> list[Left]:
        found: list[Left] = []
        for log in self.folder.glob("*.posts"):
            for line in log.read_text().splitlines():
                at, destination, batch = line.split()
                found.append(Left(int(at), destination, batch))
        return found

    def disobeyed(self) -> list[tuple[Ordered, Left]]:
        """The orders against which a call left."""
        left = sorted(self.left(), key=lambda each: each.at)
        by_batch: dict[str, list[Left]] = {}
        by_number: dict[str, list[Left]] = {}
        for each in left:
            by_batch.setdefault(each.batch, []).append(each)
            by_number.setdefault(each.destination, []).append(each)
        found: list[tuple[Ordered, Left]] = []
        for ordered in self.orders:
            if ordered.kind == "hold the queue":
                candidates = left
            elif ordered.numbers is not None:
                candidates = [each for one in ordered.numbers for each in by_number.get(one, [])]
            else:
                candidates = by_batch.get(ordered.batch, [])
            found += [(ordered, each) for each in candidates if ordered.forbids(each)]
        return found


async def _taken(received: Received, stream: SocketStream) -> None:
    """8x8 takes the call."""
    body = {"sessionId": uuid4().hex, "statusCode": 1, "statusMessage": "Created", "sessionStatus": "CREATED"}
    await answering(200, "Content-Type: application/json", body=json.dumps(body).encode())(received, stream)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


async def tried(kind: str, *, orders: int, seed: int, seeded_defect: str | None) -> bool:
    """Give this many orders, judge them, print what happened; returns whether all were obeyed."""
    endpoint = Endpoint()
    endpoint.usual = _taken
    with tempfile.TemporaryDirectory() as name, opened(kind, Path(name)) as there:
        folder = Path(name)
        async with endpoint.running(), open_store(there.url) as store:
            if seeded_defect == "no-waiting":
                _wait_for_nobody()
            trial = Trial(there.url, endpoint, folder, random.Random(seed), seeded_defect)
            queue, numbers = CallQueue(store, policy=POLICY), count(1)
            try:
                for _ in range(WORKERS):
                    await trial.start()
                for given in range(orders):
                    await trial.order(queue, [number(next(numbers)) for _ in range(CALLS)])
                    if given % LIFE == LIFE - 1:
                        await trial.change_a_worker()
            finally:
                for worker in trial.workers:
                    await asyncio.to_thread(worker.end)
            disobeyed, left = trial.disobeyed(), trial.left()
    kinds = Counter(ordered.kind for ordered in trial.orders)
    say(f"{kind}: {orders} orders: {', '.join(f'{told} times {each}' for each, told in sorted(kinds.items()))}")
    say(f"  calls that left: {len(left)}; against an order that had returned: {len(disobeyed)}")
    for ordered, each in disobeyed[:10]:
        after = (each.at - ordered.since) / 1e6
        say(f"  {ordered.kind}, {ordered.batch}: the call to {each.destination} left {after:.1f} ms later")
    return not disobeyed and bool(left)


def _begin_slowly() -> None:
    """The first calls of a worker wait between their lease and their journal entry."""
    prepare, begun = Submitter.prepare, list[bool]()

    async def late(self: Submitter, jobs: Sequence[Job], *, leased_at: float) -> list[Dispatch]:
        if not begun:
            begun.append(True)
            await anyio.sleep(PREPARED_AFTER)
        return await prepare(self, jobs, leased_at=leased_at)

    Submitter.prepare = late  # type: ignore[method-assign]


def _note_slots(log: str) -> None:
    """Write down the time of each POST just before its bytes go to the socket."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write = transport.write

    begun: dict[int, int] = {}

    def noted(self: Any, data: bytes) -> None:
        if bytes(data[:5]) == b"POST ":
            begun[id(self)] = time.monotonic_ns()
        if id(self) in begun:  # httpx gives the body in a second piece
            text = bytes(data).decode()
            to = re.search(r'"destination":\s*"([^"]+)"', text)
            batch = re.search(r'"clientBatchId":\s*"([^"]+)"', text)
            if to is not None:
                line = f"{begun.pop(id(self))} {to[1]} {'-' if batch is None else batch[1]}\n"
                os.write(file, line.encode())
        write(self, data)

    transport.write = noted


def _without_gates() -> None:
    """A journal entry asks for no open gate."""
    entry: Any = writes.journal_entry

    def unconditional(job: Job, **given: Any) -> Any:
        new, write = entry(job, **given)
        return new, replace(
            write, conditions=tuple(each for each in write.conditions if getattr(each, "namespace", None) != GATES)
        )

    writes.journal_entry = unconditional


def _leave_at_any_time() -> None:
    """Nobody looks at the time just before the first byte."""

    def begin_sending(self: PostProgress) -> None:
        self.may_have_been_sent = True

    PostProgress.begin_sending = begin_sending  # type: ignore[method-assign]


def _wait_for_nobody() -> None:
    """Orders do not wait for calls that are leaving."""

    async def at_once(*_: object, **__: object) -> int:
        return 0

    for module in (queue_module, suppression_module):
        module.until_left = at_once  # type: ignore[attr-defined]


def _connect_slowly() -> None:
    """Connecting over httpx takes up to some seconds."""
    connect, dice = anyio.connect_tcp, random.Random(os.getpid())

    async def slow(*arguments: Any, **options: Any) -> Any:
        await anyio.sleep(dice.uniform(0, SLOWEST))
        return await connect(*arguments, **options)

    anyio.connect_tcp = slow


async def _work(url: str, base_url: str, way: str) -> None:
    transport = httpx.AsyncHTTPTransport(trust_env=False) if way == "httpx" else None
    voice = VoiceClient("key", "laboratory", base_url=base_url, transport=transport, concurrency=50)
    async with open_store(url) as store, voice:
        worker = Worker(store, voice, rate=None, concurrency=50, options=WorkerOptions(policy=POLICY))
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                say(READY)
                async for _ in signals:
                    worker.stop()
                    break


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        url, base_url, log, seeded_defect, way = sys.argv[2:]
        match seeded_defect:
            case "no-gates":
                _without_gates()
            case "no-suppression":
                with_seeded_defect(seeded_defect)
            case "no-leave-by":
                _leave_at_any_time()
            case _:
                pass
        if way == "httpx":
            _connect_slowly()
        _begin_slowly()
        _note_slots(log)
        anyio.run(_work, url, base_url, way)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--store", choices=DURABLE, default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeded-defect", choices=SABOTAGE)
    given = parser.parse_args()
    sys.exit(
        not asyncio.run(tried(given.store, orders=given.orders, seed=given.seed, seeded_defect=given.seeded_defect))
    )


if __name__ == "__main__":
    main()
