"""One store with an engine on it, driven command by command, whose answers may be lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from anyio.lowlevel import checkpoint

from voiceflow_worker import CallPolicy, CallQueue, Job
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.core.numbers.locks import NumberLocks
from voiceflow_worker.core.ports import Clock, Control, Event, Jobs, Move, Query, Records, Store
from voiceflow_worker.core.sending.journal import Journal
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import StoreUnavailableError

QUEUE = "default"
LEASE = timedelta(seconds=60)
POLICY = CallPolicy(
    summary_deadline=timedelta(minutes=30), retention=timedelta(hours=1), key_retention=timedelta(hours=2)
)

T = TypeVar("T")


class Loss(StrEnum):
    """What is lost of the next trip to the store."""

    NOTHING = "nothing"
    BEFORE = "the store goes away before it does what it was asked"
    AFTER = "the store does it, and its answer is lost"


class StandingClock(ManualClock):
    """A clock that only a command moves; who sleeps on it goes on at once."""

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - nobody waits for retries here
        await checkpoint()


class LossyStore:
    """A store whose next commit, or lease, is lost when `next` says so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.next = Loss.NOTHING
        self.jobs: Jobs = _LossyJobs(self, store.jobs)

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def control(self) -> Control:
        return self._store.control

    @property
    def records(self) -> Records:
        return self._store.records

    @property
    def clock(self) -> Clock:
        return self._store.clock

    async def trip(self, trip: Callable[[], Awaitable[T]]) -> T:
        loss, self.next = self.next, Loss.NOTHING
        if loss is Loss.BEFORE:
            raise StoreUnavailableError("the store went away before it took this")
        result = await trip()
        if loss is Loss.AFTER:
            raise StoreUnavailableError("the store took this, and its answer was lost")
        return result


class _LossyJobs:
    def __init__(self, lossy: LossyStore, jobs: Jobs) -> None:
        self._lossy = lossy
        self._jobs = jobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    async def commit(self, moves: Sequence[Move]) -> Sequence[bool]:
        return await self._lossy.trip(lambda: self._jobs.commit(moves))

    async def lease(self, queue: str, **given: Any) -> Sequence[Job]:
        return await self._lossy.trip(lambda: self._jobs.lease(queue, **given))


class Side:
    """One store, and the engine's parts on it."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.store = LossyStore(store)
        self.queue = CallQueue(self.store, QUEUE, policy=POLICY)
        self.settler = Settler(self.store, POLICY)
        self.sweeper = Sweeper(self.store, queue=QUEUE, policy=POLICY)
        self.journal = Journal(self.store, POLICY, lease=LEASE)
        self.numbers = NumberLocks(self.store.records, POLICY)

    async def lease(self, limit: int, now: datetime) -> list[Job] | None:
        """None: the answer was lost."""
        try:
            jobs = await self.store.jobs.lease(QUEUE, worker_id="worker", limit=limit, lease_for=LEASE, now=now)
        except StoreUnavailableError:
            return None
        return list(jobs)

    async def again(self, command: Callable[[], Awaitable[T]]) -> T:
        """A command that is given again when the store was away, as its caller would."""
        try:
            return await command()
        except StoreUnavailableError:
            return await command()

    async def jobs(self) -> dict[str, Job]:
        found = await self.store.jobs.find(Query(queue=QUEUE, limit=None))
        return {job.id: job for job in found}

    async def events(self, after: int) -> list[Event]:
        return list(await self.store.jobs.events(QUEUE, after=after, limit=100_000))


def comparable(job: Job) -> Job:
    """A job as every store must have it: the tokens of its moves are each store's own."""
    return replace(job, revision="")
