"""Calls that end as a test says, without a worker or a receiver; and time that passes while a test waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import Job, RedialPolicy, SessionStatus
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.core.ports import Clock, Control, Store
from voiceflow_worker.errors import StoreUnavailableError

STEP = timedelta(milliseconds=100)


class Calls:
    """Calls of one queue, placed and ended on demand."""

    def __init__(self, store: Store, *, queue: str = "default") -> None:
        self.engine = Engine(store, ScriptedVoice(), queue=queue)
        self.queue = self.engine.queue
        self._count = 0

    async def placed(self, *, redial: RedialPolicy | None = None) -> Job:
        """A call that rings: 8x8 said CREATED."""
        self._count += 1
        job = await self.engine.enqueue(number(self._count), redial=redial)
        [sent] = await self.engine.send()
        assert sent.id == job.id
        return sent

    async def end(self, job: Job, status: SessionStatus = SessionStatus.COMPLETED) -> None:
        """The summary of its newest POST comes."""
        await self.engine.summarise(job, status)

    async def ended(self, status: SessionStatus = SessionStatus.COMPLETED) -> Job:
        """A call that was placed and has ended."""
        job = await self.placed()
        await self.end(job, status)
        return job


class AwayStore:
    """A store that is away for as many trips as `trips` says, but for the methods that are open all the same."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trips = 0
        self.is_open_for: set[str] = set()
        self.url = store.url
        self.clock: Clock = store.clock
        self.control: Control = store.control
        self.jobs: Any = _AwayPart(self, store.jobs)
        self.records: Any = _AwayPart(self, store.records)


class _AwayPart:
    def __init__(self, away: AwayStore, part: object) -> None:
        self._away = away
        self._part = part

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)

        async def trip(*arguments: Any, **options: Any) -> Any:
            if self._away.trips and name not in self._away.is_open_for:
                self._away.trips -= 1
                raise StoreUnavailableError("the store is away")
            return await method(*arguments, **options)

        return trip


@asynccontextmanager
async def time_passing(clock: ManualClock, *, step: timedelta = STEP) -> AsyncIterator[None]:
    """Let time pass while the block lasts, whenever somebody sleeps: fifty times as quick as in life, or slower."""

    async def pass_time() -> None:
        while True:
            await anyio.sleep(0.002)  # the pace of the clock: so much real time for each step
            if clock.sleepers:
                clock.advance(step)

    async with anyio.create_task_group() as group:
        group.start_soon(pass_time)
        yield
        group.cancel_scope.cancel()
