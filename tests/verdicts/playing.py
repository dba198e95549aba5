"""One call, one real worker, one socket: what is found when the POST is over, and what the next worker makes of it."""

from __future__ import annotations

from datetime import timedelta

import anyio

from tests.support.flows import SOURCE
from tests.verdicts.conftest import Ground
from tests.verdicts.scenes import Scene, well_behaved
from tests.verdicts.table import Hold
from voiceflow_worker import CallFlow, CallPolicy, CallQueue, Job, Worker, WorkerOptions
from voiceflow_worker.core.base.reading import count_states, gates_of
from voiceflow_worker.core.drain import DrainResult
from voiceflow_worker.core.ports import Placement, Voice
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Verdict

POLICY = CallPolicy(
    first_backoff=timedelta(milliseconds=100),
    longest_backoff=timedelta(seconds=1),
    first_check=timedelta(0),  # a job in doubt is due for a look at once, so that a test need not wait for it
)
OPTIONS = WorkerOptions(policy=POLICY)
WITHIN = 60.0


class StopsAfterOne:
    """A voice that stops its worker as soon as one POST is over: what stands then is what that POST did."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self.worker: Worker | None = None

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        try:
            return await self._voice.place(placement, before_first_byte=before_first_byte)
        finally:
            assert self.worker is not None
            self.worker.stop()


def worker_on(ground: Ground, voice: Voice, *, options: WorkerOptions = OPTIONS) -> Worker:
    """A worker as the command line makes it; without a rate, so that no busy machine makes it miss a send slot."""
    return Worker(ground.store, voice, rate=None, options=options, call_log=None, local_journal=ground.local_journal)


def call(destination: str = "+6587654321", *, says: int = 1) -> CallFlow:
    """A call flow that says so many texts, long ones if it is more than one."""
    text = "Your order is ready." if says == 1 else "x" * 3000
    flow = CallFlow.call(destination, source=SOURCE)
    for _ in range(says):
        flow = flow.say(text, voice_profile="en-IE-EmilyNeural")
    return flow.hangup()


def queue_of(ground: Ground) -> CallQueue:
    return CallQueue(ground.store, policy=POLICY)


async def one_post(ground: Ground, scene: Scene) -> None:
    """Let a worker make one POST there."""
    async with scene.client() as client:
        voice = StopsAfterOne(client)
        voice.worker = worker_on(ground, voice)
        with anyio.fail_after(WITHIN):
            await voice.worker.run()


async def drained(ground: Ground, scene: Scene) -> DrainResult:
    """Let a worker do there whatever it finds to do."""
    async with scene.client() as client:
        with anyio.fail_after(WITHIN):
            return await worker_on(ground, client).drain()


async def mended(ground: Ground) -> tuple[DrainResult, int]:
    """Everything is well again, and another worker comes: what it drained, and how many POSTs it made."""
    with well_behaved() as scene:
        result = await drained(ground, scene)
        return result, scene.posts()


async def closed_gates(ground: Ground) -> list[Gate]:
    """The gates that were closed, whether or not their time has passed since."""
    return list(await gates_of(ground.store, "default"))


def assert_hold(gates: list[Gate], expected: Hold | timedelta) -> None:
    """Exactly this hold, and no other."""
    match expected:
        case Hold.NO:
            assert gates == []
        case Hold.UNTIL_OPENED:
            [gate] = gates
            assert gate.until is None
        case timedelta():
            [gate] = gates
            assert gate.until is not None
            assert gate.until - gate.since == expected


async def only_job(ground: Ground) -> Job:
    """The one job of the queue; no other is in any state."""
    [job] = await queue_of(ground).find(limit=None)
    assert sum((await count_states(ground.store, "default")).values()) == 1
    return job
