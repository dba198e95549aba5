"""A store whose calls fail on purpose: before they are carried out, or after, with their answer lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from voiceflow_worker.core.ports.outside import LocalJournal, journal_of
from voiceflow_worker.core.ports.reads import AnyOf, Counted, Read
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Clock,
    Event,
    History,
    Record,
    Replace,
    Store,
    Wanted,
    WriteResult,
)
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import Totals


class Loss(StrEnum):
    """How a call to the store is lost."""

    NOTHING = "nothing"
    BEFORE = "the store goes away before it carries the call out"
    AFTER = "the store carries the call out, and its answer is lost"


@dataclass(frozen=True)
class StoreCall:
    """A call to a method of the store."""

    name: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    carry_out: Callable[[], Awaitable[Any]]

    @property
    def stores(self) -> list[Job]:
        """The jobs whose next version this call stores."""
        bulk = self.arguments[0] if self.name == "write" else None
        return (
            [each.job for write in bulk.writes for each in write.changes if isinstance(each, Replace)] if bulk else []
        )


Hook = Callable[[StoreCall], Awaitable[None]]


async def nothing(call: StoreCall) -> None:
    """Let the call be."""


@dataclass
class _Fault:
    loss: Loss
    names: tuple[str, ...]
    unless: Collection[str]
    times: int
    when: Callable[[StoreCall], bool]

    def concerns(self, call: StoreCall) -> bool:
        return call.name.startswith(self.names) and call.name not in self.unless and self.when(call)


class FaultyStore:
    """Wraps a store. `lose` lets calls fail; `before` and `after` are awaited around each call.

    What `before` raises keeps the call from being carried out; what `after` raises takes the place of its answer.
    """

    def __init__(self, store: Store, *, before: Hook = nothing, after: Hook = nothing) -> None:
        self._store = store
        self.before = before
        self.after = after
        self.made: Counter[str] = Counter()
        self.lost: Counter[Loss] = Counter()
        self.under_way = 0
        self._fault: _Fault | None = None

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def clock(self) -> Clock:
        return self._store.clock

    @property
    def local_journal(self) -> LocalJournal | None:
        return journal_of(self._store)

    @property
    def still_to_lose(self) -> int:
        """How many calls are still to fail."""
        return self._fault.times if self._fault else 0

    def lose(
        self,
        loss: Loss,
        *names: str,
        times: int = 1,
        unless: Collection[str] = (),
        when: Callable[[StoreCall], bool] = lambda _: True,
    ) -> None:
        """Let the next calls fail whose name begins with one of `names`, in place of what was to fail until now."""
        self._fault = None if loss is Loss.NOTHING else _Fault(loss, names or ("",), unless, times, when)

    async def call(self, call: StoreCall) -> Any:
        """Carry a call out, unless it is to fail."""
        await self.before(call)
        self._fail(Loss.BEFORE, call)
        self.under_way += 1
        try:
            answer = await call.carry_out()
        finally:
            self.under_way -= 1
        self.made[call.name] += 1
        await self.after(call)
        self._fail(Loss.AFTER, call)
        return answer

    def _fail(self, loss: Loss, call: StoreCall) -> None:
        fault = self._fault
        if fault is not None and fault.loss is loss and fault.times and fault.concerns(call):
            fault.times -= 1
            self.lost[loss] += 1
            raise StoreUnavailableError(f"{call.name}: {loss}")

    async def _carried_out(self, name: str, *arguments: Any, **options: Any) -> Any:
        method = getattr(self._store, name)
        return await self.call(StoreCall(name, arguments, options, lambda: method(*arguments, **options)))

    @property
    def id(self) -> str:
        return self._store.id

    @property
    def server(self) -> str:
        return self._store.server

    @property
    def history(self) -> History | None:
        return self._store.history

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        written: Sequence[WriteResult] = await self._carried_out("write", bulk, now=now)
        return written

    async def lease(self, queue: str, **options: Any) -> Sequence[Job]:
        leased: Sequence[Job] = await self._carried_out("lease", queue, **options)
        return leased

    async def jobs(self, read: Read, *, now: datetime) -> Sequence[Job]:
        found: Sequence[Job] = await self._carried_out("jobs", read, now=now)
        return found

    async def totals(self, queue: str, **options: Any) -> Sequence[Totals]:
        totals: Sequence[Totals] = await self._carried_out("totals", queue, **options)
        return totals

    async def count(self, read: Counted | AnyOf) -> int:
        count: int = await self._carried_out("count", read)
        return count

    async def records(self, wanted: Wanted, *, now: datetime) -> Mapping[str, Sequence[Record]]:
        found: Mapping[str, Sequence[Record]] = await self._carried_out("records", wanted, now=now)
        return found

    async def events(self, queue: str, **options: Any) -> Sequence[Event]:
        events: Sequence[Event] = await self._carried_out("events", queue, **options)
        return events

    async def wait(self, queue: str, **options: Any) -> int:
        count: int = await self._carried_out("wait", queue, **options)
        return count

    async def prune(self, queue: str, **options: Any) -> int:
        pruned: int = await self._carried_out("prune", queue, **options)
        return pruned


class Dies:
    """A process that dies before its n-th write."""

    def __init__(self, at: int) -> None:
        self.left = at

    def over(self, store: Store) -> FaultyStore:
        """The store as this process has it."""
        return FaultyStore(store, before=self._count)

    @property
    def is_dead(self) -> bool:
        """Whether it has died."""
        return self.left <= 0

    async def _count(self, call: StoreCall) -> None:
        self.left -= call.name == "write"
        if self.is_dead:
            raise StoreUnavailableError("killed")
