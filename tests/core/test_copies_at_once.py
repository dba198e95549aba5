"""Copies of one store at once, and people who give one up, go on, or work: nobody rings twice, and nobody is lost."""

from __future__ import annotations

import random
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any, cast

import anyio
import pytest
from anyio import to_thread

from tests.contract.samples import ManualClock
from tests.core.test_store_copy import ME, Cut, Killed, Opened, of, opening
from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.processes import running, voiceflow
from tests.support.stores import SERVERS
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import enqueued
from voiceflow_worker import CallPolicy, CallQueue, open_store
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.backends.registry import backend_for
from voiceflow_worker.core import store_copy
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import CLOSED, CLOSED_KEY
from voiceflow_worker.core.store_copy import StoreCopy, copy_of
from voiceflow_worker.errors import InvalidInputError, StoreClosedError, StoreError
from voiceflow_worker.model.jobs.policy import OutcomeSource

pytestmark = pytest.mark.anyio
POLICY = CallPolicy(outcomes=OutcomeSource.NONE)


class Turns:
    """Who does the next thing with a store: one at a time, as chance has it, and some are killed."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self._waiting: dict[str, anyio.Event] = {}
        self._killed = set[str]()
        self._alive = set[str]()
        self._changed = anyio.Event()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def take(self, who: str) -> None:
        """Wait until it is the turn of this one. Raises Killed."""
        self._waiting[who] = anyio.Event()
        self._tell()
        await self._waiting[who].wait()
        if who in self._killed:
            raise Killed

    async def live(self, who: str, work: Callable[[], Awaitable[object]]) -> None:
        with suppress(Killed, StoreError, InvalidInputError):
            await self.take(who)
            await work()
        self._alive.discard(who)
        self._tell()

    async def run(self, works: dict[str, Callable[[], Awaitable[object]]]) -> None:
        self._alive = set(works)
        last = ""
        async with anyio.create_task_group() as group:
            for who, work in works.items():
                group.start_soon(self.live, who, work)
            while self._alive:
                while self._waiting.keys() < self._alive:
                    await self._changed.wait()
                if not self._alive:
                    break
                # Most go on for a while: so the others stand still for long, as a process that was stopped.
                if last not in self._alive or self.chance.random() < 0.06:
                    last = self.chance.choice(sorted(self._alive))
                if self.chance.random() < 0.002:
                    self._killed.add(last)
                self._waiting.pop(last).set()
                await self._changed.wait()

    def through(self, who: str, opened: Opened) -> Opened:
        @asynccontextmanager
        async def turned() -> AsyncGenerator[Store]:
            async with opened() as store:
                yield cast("Store", Turned(store, partial(self.take, who), of=STEPS))

        return turned


WRITES = ("write", "adopt")
STEPS = (*WRITES, "records", "jobs", "count")


class Turned:
    """A store of which each of these steps waits for its turn."""

    def __init__(self, store: Store, turn: Callable[[], Awaitable[None]], *, of: Sequence[str]) -> None:
        self._store = store
        self._turn = turn
        self._of = of

    def __getattr__(self, name: str) -> Any:
        does = getattr(self._store, name)
        return partial(self._do, does) if name in self._of else does

    async def _do(self, does: Callable[..., Awaitable[object]], *arguments: object, **named: object) -> object:
        await self._turn()
        return await does(*arguments, **named)


class Field:
    """An old store with calls that wait, two empty ones, and the voice that rings from all of them."""

    def __init__(self, source: Opened, targets: dict[str, Opened]) -> None:
        self.stores = {"old": source, **targets}
        self.voice = ScriptedVoice()

    async def furnish(self, calls: int) -> None:
        async with self.stores["old"]() as old:
            for place in range(calls):
                await Engine(old, self.voice, policy=POLICY).enqueue(number(place), unique_key=f"{place}")
            ended = Engine(old, self.voice, policy=POLICY)
            await ended.send(limit=2)

    async def work(self, name: str, *, limit: int = 1) -> bool:
        """A person resumes the queue of a store that has calls, and a worker calls. Whether the store is open."""
        async with self.stores[name]() as store:
            if not await QueueNames(store).known():
                return False
            try:
                await CallQueue(store).resume()
                await Engine(store, self.voice, policy=POLICY).send(limit=limit)
            except StoreClosedError:
                return False
        return True

    async def work_everywhere(self) -> None:
        for name in self.stores:
            await self.work(name)

    async def copy(self, through: Callable[[Opened], Opened], to: str) -> None:
        async with through(self.stores["old"])() as old:
            await StoreCopy(old, to).run(through(self.stores[to]), ME, within=timedelta(0))

    async def abandon(self, through: Callable[[Opened], Opened], to: str) -> None:
        async with through(self.stores["old"])() as old:
            await StoreCopy(old, to).abandon(ME)

    async def end(self) -> None:
        """A person finishes what was cut short, or gives it up, and all are called."""
        async with self.stores["old"]() as old:
            known = await copy_of(old, "to")
        if known is not None:
            try:
                await self.copy(lambda opened: opened, known.url)
            except (StoreError, InvalidInputError):
                await self.abandon(lambda opened: opened, known.url)
        assert sum([await self.work(name, limit=50) for name in self.stores]) >= 1


async def check_at_once(seed: str, field: Field, *, calls: int) -> None:
    await field.furnish(calls)
    turns = Turns(seed)
    works: dict[str, Callable[[], Awaitable[object]]] = {}

    async def working(who: str) -> None:
        for _ in range(8):
            await field.work(turns.chance.choice(sorted(field.stores)))
            await turns.take(who)

    for place in range(turns.chance.randrange(2, 5)):
        does = field.abandon if place and turns.chance.random() < 0.4 else field.copy
        who, to = f"{place} {does.__name__}", turns.chance.choice(("first", "second"))
        works[who] = partial(does, partial(turns.through, who), to)
    works["a worker"] = partial(working, "a worker")
    await turns.run(works)
    await field.end()
    rang = sorted(field.voice.rang)
    assert rang == [number(place) for place in range(calls)], (seed, list(works))


def in_memory() -> Field:
    clock = ManualClock()
    old, first, second = (of(MemoryStore(clock=clock)) for _ in range(3))
    return Field(old, {"first": first, "second": second})


async def test_of_copies_at_once_nobody_rings_twice_and_nobody_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_copy, "PAGE", 2)
    for seed in range(50):
        await check_at_once(f"{seed}", in_memory(), calls=7)


MEANWHILE = (
    ("copy second",),
    ("copy first",),
    ("copy first", "abandon first"),
    ("abandon first",),
    ("abandon first", "copy second"),
    ("abandon first", "copy second", "abandon second"),
    ("abandon first", "copy first"),
)
"""What others do while a copy to the first store stands still."""


async def stands_still(field: Field, at: int, meanwhile: Sequence[str], steps: Sequence[str]) -> bool:
    """Copy to the first store, stand still before the step with this number, and go on. Whether there is one."""
    left = at

    async def others() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            for does, to in map(str.split, meanwhile):
                with suppress(StoreError, InvalidInputError):
                    await {"copy": field.copy, "abandon": field.abandon}[does](lambda opened: opened, to)
                await field.work_everywhere()

    def through(opened: Opened) -> Opened:
        @asynccontextmanager
        async def watched() -> AsyncGenerator[Store]:
            async with opened() as store:
                yield cast("Store", Turned(store, others, of=steps))

        return watched

    with suppress(StoreError, InvalidInputError):
        await field.copy(through, "first")
    await field.work_everywhere()
    await field.end()
    return left <= 0


async def check_stands_still(made: Callable[[], Field], steps: Sequence[str], *, by: int = 1) -> None:
    for is_repeated, meanwhile in product((False, True), MEANWHILE):
        at, is_there = 1, True
        while is_there:
            field = made()
            await field.furnish(6)
            if is_repeated:  # the one that stands still goes on with a copy that was cut short
                with suppress(Killed):
                    await field.copy(Cut(12, before=True).through, "first")
            is_there = await stands_still(field, at, meanwhile, steps)
            rang = sorted(field.voice.rang)
            assert rang == [number(place) for place in range(6)], (at, is_repeated, meanwhile)
            at += by
        assert at > 8


async def test_a_copy_that_stood_still_while_others_went_on_rings_nobody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_copy, "PAGE", 10)
    await check_stands_still(in_memory, WRITES, by=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_copy_that_stood_still_before_any_step_rings_nobody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_copy, "PAGE", 10)
    await check_stands_still(in_memory, STEPS)
    for seed in range(400):
        await check_at_once(f"much {seed}", in_memory(), calls=7)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["sqlite", *SERVERS])
async def test_of_copies_at_once_on_each_store_nobody_rings_twice_and_nobody_is_lost(
    kind: str, fresh_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_copy, "PAGE", 2)

    def made() -> Field:
        clock = ManualClock()
        old, first, second = (opening(fresh_url(kind), clock) for _ in range(3))
        return Field(old, {"first": first, "second": second})

    for seed in range(8):
        await check_at_once(f"{kind} {seed}", made(), calls=7)
    monkeypatch.setattr(store_copy, "PAGE", 10)
    await check_stands_still(made, WRITES, by=5)


MANY = 3000
"""Calls: enough that a copy can be stopped in its middle."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", *SERVERS])
async def test_a_process_that_was_stopped_while_it_wrote_opens_nothing_after_it_was_given_up(
    kind: str, fresh_url: Callable[[str], str]
) -> None:
    old, first, second = (fresh_url(kind) for _ in range(3))
    async with open_store(old) as store:
        for first_place in range(0, MANY, 1000):
            await enqueued(store, 1000, first=first_place)

    async def is_filling() -> bool:
        async with backend_for(first)(first, clock=None) as store:
            return sum((await count_states(store, "default")).values()) > 0

    with running("store", "copy", old, first, "--yes") as stopped:
        await until(is_filling)
        stopped.signal(signal.SIGSTOP)
        for order in ((first, "--abandon"), (second, "--yes")):
            ended = await to_thread.run_sync(partial(voiceflow, "store", "copy", old, *order))
            assert ended.end() == 0, ended.told
        stopped.signal(signal.SIGCONT)
        assert await to_thread.run_sync(partial(stopped.wait, seconds=120)) == 3, stopped.told
    assert [await is_open(url) for url in (old, first, second)] == [False, False, True]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", *SERVERS])
async def test_of_two_processes_that_copy_one_store_at_once_one_ends_well(
    kind: str, fresh_url: Callable[[str], str]
) -> None:
    old, *urls = (fresh_url(kind) for _ in range(3))
    async with open_store(old) as store:
        await enqueued(store, 40)
    with ExitStack() as both:
        copies = [both.enter_context(running("store", "copy", old, url, "--yes")) for url in urls]
        codes = [await to_thread.run_sync(partial(each.wait, seconds=120)) for each in copies]
    assert codes.count(0) == 1, [each.told for each in copies]
    assert [await is_open(url) for url in urls] == [code == 0 for code in codes]
    assert not await is_open(old)


async def is_open(url: str) -> bool:
    async with backend_for(url)(url, clock=None) as store:
        found = await store.records({CLOSED: [CLOSED_KEY]}, now=store.clock.now())
        return await QueueNames(store).known() != [] and not found[CLOSED]
