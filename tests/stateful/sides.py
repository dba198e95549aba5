"""One store with an engine on it, driven command by command, whose answers may be lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from anyio.lowlevel import checkpoint

from tests.support.faulty_store import FaultyStore
from voiceflow_worker import CallPolicy, CallQueue, Job
from voiceflow_worker.backends.contract.samples import ManualClock
from voiceflow_worker.core.ports import Event, Query, Store
from voiceflow_worker.core.ports.reading import find_jobs
from voiceflow_worker.core.sending.journal import Journal
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import StoreUnavailableError

QUEUE = "default"
LEASE = timedelta(seconds=60)
POLICY = CallPolicy(summary_deadline=timedelta(minutes=30))

T = TypeVar("T")


class StandingClock(ManualClock):
    """A wall clock that only a command moves; who sleeps goes on at once, and has slept."""

    async def sleep(self, seconds: float) -> None:
        await checkpoint()
        self._monotonic += max(seconds, 0)


class Side:
    """One store, and the engine's parts on it."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.store = FaultyStore(store)
        self.queue = CallQueue(self.store, QUEUE, policy=POLICY)
        self.settler = Settler(self.store, POLICY)
        self.journal = Journal(self.store, POLICY, lease=LEASE)

    @property
    def sweeper(self) -> Sweeper:
        """The sweep of a worker that has just started: it remembers no cancelled batch that has nothing to end."""
        return Sweeper(self.store, queue=QUEUE, policy=POLICY)

    async def lease(self, limit: int, now: datetime) -> list[Job] | None:
        """None: the answer was lost."""
        try:
            jobs = await self.store.lease(QUEUE, worker_id="worker", limit=limit, until=now + LEASE, now=now)
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
        found = await find_jobs(self.store, Query(queue=QUEUE, limit=None))
        return {job.id: job for job in found}

    async def events(self, after: int) -> list[Event]:
        return list(await self.store.events(QUEUE, after=after, limit=100_000))


def comparable(job: Job) -> Job:
    """A job as every store must have it: the tokens of its moves are each store's own."""
    return replace(job, revision="")
