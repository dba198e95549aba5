"""Two tries of one campaign task at the same time, stopped at each of their store operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider.calls.enqueueing import RequestedCall, enqueue_campaign, enqueue_once
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import Stop
from airflow_provider.calls.waiting import WaitedCalls
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, Campaign, VoiceflowError, open_store
from voiceflow_worker.campaigns import plan

pytestmark = pytest.mark.anyio

TASK = TaskIdentity(dag_id="d", run_id="r", task_id="t")
PERSON = "+6587654321"
SAID = {"window": "any", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
MOST_OPERATIONS = 40


Enqueue = Callable[[CallQueue, str], Awaitable[None]]


# `again`, because the guard across runs has nothing to find here.
async def campaign(queue: CallQueue, name: str, identity: TaskIdentity = TASK, *, again: bool = True) -> None:
    """A try of a campaign task with one row."""
    rows = [{"destination": PERSON, "name": name}]
    wanted = Campaign.of({**SAID, "say": "Hello {{ name }}.", "rows": rows, "batch": identity.batch_id()})
    await enqueue_campaign(queue, wanted, identity, again=again)


async def call(queue: CallQueue, name: str, identity: TaskIdentity = TASK, *, again: bool = True) -> None:
    """A try of a task that makes one call."""
    fields = {**SAID, "to": PERSON, "say": f"Hello {name}.", "batch": identity.batch_id()}
    await enqueue_once(queue, RequestedCall(fields=fields, again=again), identity)


class SteppedStore:
    """A store as one try sees it: each of its operations waits for its turn."""

    def __init__(self, store: Any) -> None:
        self.url, self.clock, self.id = store.url, store.clock, store.id
        self.permits, self.arrived = asyncio.Semaphore(0), asyncio.Event()
        self._store = store

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)

        async def stepped(*given: Any, **more: Any) -> Any:
            self.arrived.set()
            await self.permits.acquire()
            return await operation(*given, **more)

        return stepped


class Try:
    """One try, as far as it may go."""

    def __init__(self, enqueue: Enqueue, store: Any, name: str) -> None:
        self.has_succeeded = False
        self._stepped: Any = SteppedStore(store)
        self._task = asyncio.create_task(self._tried(enqueue(CallQueue(self._stepped), name)))

    async def _tried(self, enqueueing: Awaitable[None]) -> None:
        with suppress(VoiceflowError):  # another try changed its calls: a retry looks again
            await enqueueing
            self.has_succeeded = True

    async def go(self, operations: int) -> int:
        """Let it pass so many operations; returns how many it made before its end."""
        for passed in range(operations):
            arrival = asyncio.create_task(self._stepped.arrived.wait())
            await asyncio.wait({self._task, arrival}, return_when=asyncio.FIRST_COMPLETED)
            arrival.cancel()
            if self._task.done():
                await self._task
                return passed
            self._stepped.arrived.clear()
            self._stepped.permits.release()
        return operations

    async def ends(self) -> bool:
        """Let it go on; returns whether it has ended."""
        return await self.go(MOST_OPERATIONS * 4) < MOST_OPERATIONS * 4

    async def end(self) -> None:
        assert await self.ends()


class Scene:
    """A store in which the first try of the task left a call, and a worker."""

    def __init__(self, enqueue: Enqueue, store: Any) -> None:
        self._enqueue = enqueue
        self.store = store
        self.engine = Engine(store, ScriptedVoice())

    async def left(self, *, is_taken_back: bool) -> None:
        await self._enqueue(self.engine.queue, "Anm")
        if is_taken_back:
            stop = Stop(identity=TASK, calls=WaitedCalls(batch_id=TASK.batch_id()))
            await stop.carry_out(nullcontext(self.engine.queue))

    async def send(self) -> None:
        for job in await self.engine.send():
            await self.engine.summarise(job)

    async def rings(self) -> int:
        for _ in range(3):  # a second call to one number waits until the first has ended
            await self.send()
        jobs = await self.engine.queue.find(limit=None)
        return sum(post.may_have_rung for job in jobs for post in job.posts)


@pytest.fixture
async def scene() -> AsyncIterator[Callable[[Enqueue], Any]]:
    async with open_store("memory://") as first:
        yield lambda enqueue: Scene(enqueue, type(first)())


@pytest.mark.parametrize("names", [("Anm", "Ann"), ("Ann", "Anm")])
@pytest.mark.parametrize("is_taken_back", [True, False])
@pytest.mark.parametrize("enqueue", [pytest.param(campaign, marks=pytest.mark.slow), call])
async def test_two_tries_at_once_leave_one_call(
    scene: Callable[[Enqueue], Any],
    names: Sequence[str],
    is_taken_back: bool,
    enqueue: Enqueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One goes on for so many operations, then the other, then a worker sends, then both go on to their ends."""
    monkeypatch.setattr(plan, "LOOK_AGAIN", 0.0)
    wrong: list[tuple[int, int, int]] = []
    passed = 0
    for before in range(MOST_OPERATIONS):
        for meanwhile in range(1, MOST_OPERATIONS):
            staged = scene(enqueue)
            await staged.left(is_taken_back=is_taken_back)
            one, other = (Try(enqueue, staged.store, name) for name in names)
            passed = await one.go(before)
            made = await other.go(meanwhile)
            await staged.send()
            if not await one.ends():  # it waits for the turn of the other
                await other.end()
            await one.end()
            await other.end()
            rings = await staged.rings()
            with suppress(VoiceflowError):
                await enqueue(staged.engine.queue, names[1])  # the next try
            too_few = rings == 0 and (one.has_succeeded or other.has_succeeded)
            if rings > 1 or too_few or await staged.rings() != 1:
                wrong.append((before, meanwhile, rings))
            if made < meanwhile:
                break
        if passed < before:
            break
    assert wrong == []


@pytest.mark.parametrize("enqueue", [campaign, call])
async def test_of_runs_that_begin_at_once_one_calls(scene: Callable[[Enqueue], Any], enqueue: Any) -> None:
    staged = scene(enqueue)
    runs = [replace(TASK, run_id=f"run-{place}") for place in range(5)]
    begun = (enqueue(staged.engine.queue, "Ann", run, again=False) for run in runs)
    ended = await asyncio.gather(*begun, return_exceptions=True)
    assert ended.count(None) == 1
    assert all("again=True" in str(error) for error in ended if error is not None)
    assert await staged.rings() == 1
