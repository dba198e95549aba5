"""Hooks: your own functions, told what becomes of calls, at least once and beside everything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from voiceflow_worker.core.outcomes.hook import Handler, Hook, HookCounts, HookOptions, made_hook
from voiceflow_worker.core.outcomes.hook_backlog import SINCE, HookBacklog
from voiceflow_worker.core.outcomes.hook_lane import LEAVING, HookLane, reader_name
from voiceflow_worker.core.outcomes.outbox import Cursors, last_sequence
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import checked_queue, checked_reader
from voiceflow_worker.core.ports.queue_names import QueueNames
from voiceflow_worker.core.ports.retrying import retry_until_available
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.job import JobState

LOOK_FOR_QUEUES = timedelta(seconds=5)
LOOK_EVERY = timedelta(milliseconds=100)

AnyHandler = TypeVar("AnyHandler", bound=Handler)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedOutcome:
    """An outcome that a hook was not told, after `failures` tries, and will not be. `error` is the last failure."""

    job_id: str
    state: JobState
    post: int
    at: datetime
    failures: int
    error: str


class OutcomeHooks:
    """Handlers that are told what becomes of calls: of the queue `queue`, or with None of all queues that have workers.

    Each outcome reaches each hook at least once, the outcomes of one call in order; `CallOutcome.id` is the same each
    time. What a hook still has to be told stands in the store under the hook's name: it goes on after a restart, and of
    several processes with a hook of that name one tells it at a time. A hook that is new begins with what happens from
    when this was made. `grace` is how long `stop` lets handlers finish.
    """

    def __init__(
        self, store: Store, *, queue: str | None = "default", grace: timedelta = timedelta(seconds=10)
    ) -> None:
        self._store = store
        self._queue = None if queue is None else checked_queue(queue)
        self._grace = grace
        self._hooks: dict[str, Hook] = {}
        self._lanes: list[HookLane] = []
        self._runs = False
        self._stopped = anyio.Event()
        self._nap = anyio.CancelScope()
        self._since = store.clock.now()

    def on_outcome(
        self,
        *,
        name: str,
        only: Iterable[JobState] | None = None,
        attempts: bool = True,
        options: HookOptions | None = None,
    ) -> Callable[[AnyHandler], AnyHandler]:
        """Tell the decorated function outcomes, under this name, which must stay the same from one start to the next.

        It takes a `CallOutcome`, and may be async or not (it is then run in a thread). Whatever it raises is a failure:
        the outcome is told again, after waits that grow (`HookOptions`); meanwhile those of other calls go on. It may
        raise `TellAgainError` to name the wait, and `HookGoneError` to be told no more. `only` are the states that it
        is told of, `attempts=False` leaves out attempts that are followed by a redial. Raises `InvalidInputError` for a
        name that is taken or cannot be one, and once these hooks run.
        """

        def register(handler: AnyHandler) -> AnyHandler:
            if checked_reader(name) in self._hooks:
                raise InvalidInputError(f"there is a hook {name} already: each has a name of its own")
            if self._runs:
                raise InvalidInputError(f"hook {name} comes too late: register hooks before they run")
            self._hooks[name] = made_hook(name, handler, only=only, attempts=attempts, options=options)
            return handler

        return register

    @property
    def counts(self) -> Mapping[str, HookCounts]:
        """What each hook was told by this process, by its name."""
        return MappingProxyType({name: hook.counts for name, hook in self._hooks.items()})

    async def run(self) -> None:
        """Tell the hooks until `stop` is called. A store that is away is waited for."""
        self._runs = True
        async with anyio.create_task_group() as everything:
            everything.start_soon(self._end, everything)
            async with anyio.create_task_group() as lanes:
                if self._queue is not None:
                    await self._open(self._queue, lanes)
                else:
                    await self._open_each(lanes)
            everything.cancel_scope.cancel()

    def stop(self) -> None:
        """Begin nothing new; `run` returns once what is being told has ended, or the grace has."""
        self._stopped.set()
        self._nap.cancel()
        for lane in self._lanes:
            lane.stop()

    async def caught_up(self) -> None:
        """Return when every hook was told what had happened by now, whichever process tells it.

        What failed and is told again later does not count, nor do hooks that have stopped. A store that is away is
        waited for.
        """
        names = [self._queue] if self._queue is not None else await self._known_queues()
        for name in names:
            end = await self._patiently(partial(last_sequence, self._store.jobs, name))
            for hook in self._hooks.values():
                while not (hook.counts.is_stopped or await self._has_passed(hook, name, end)):
                    await self._store.clock.sleep(LOOK_EVERY.total_seconds())

    async def parked(self, name: str, *, queue: str = "default") -> list[ParkedOutcome]:
        """The outcomes that a hook was not told, for ninety days. Raises StoreError."""
        found = await HookBacklog(self._store, hook=name, queue=queue).parked()
        return [
            ParkedOutcome(
                job_id=entry.event.job_id,
                state=entry.event.state,
                post=entry.event.post,
                at=entry.event.at,
                failures=entry.failures,
                error=entry.error,
            )
            for entry in found
        ]

    async def tell_parked_again(self, name: str, *, queue: str = "default") -> int:
        """Have a hook told again what it was not told; says how many. It begins within a minute. Raises StoreError."""
        book = HookBacklog(self._store, hook=name, queue=queue)
        found = await book.parked()
        if found:
            await book.unpark(found)
        return len(found)

    async def _open(self, queue: str, lanes: TaskGroup, *, since: Mapping[str, datetime] | None = None) -> None:
        for hook in self._hooks.values():
            begins = self._since if since is None else since[hook.name]
            lane = HookLane(self._store, hook, queue, since=begins, grace=self._grace)
            self._lanes.append(lane)
            if self._stopped.is_set():
                lane.stop()
            lanes.start_soon(lane.run)

    async def _open_each(self, lanes: TaskGroup) -> None:
        """Tell of every queue, as they come to be known. A queue that is new is told of from its first call on."""
        since = await self._patiently(self._registered)
        opened: set[str] = set()
        while not self._stopped.is_set():
            for queue in sorted(set(await self._known_queues()) - opened):
                opened.add(queue)
                await self._open(queue, lanes, since=since)
            if self._stopped.is_set():
                break
            with anyio.CancelScope() as self._nap:
                await self._store.clock.sleep(LOOK_FOR_QUEUES.total_seconds())

    async def _registered(self) -> Mapping[str, datetime]:
        """Since when each hook is told of all queues."""
        if not self._hooks:
            return {}
        now = self._store.clock.now()
        values = dict.fromkeys(self._hooks, self._since.isoformat())
        stands = await self._store.records.put_if_absent(SINCE, values, expires_at=None, now=now)
        return {name: datetime.fromisoformat(text) for name, text in stands.items()}

    async def _known_queues(self) -> list[str]:
        return await self._patiently(lambda: QueueNames(self._store.records).known(now=self._store.clock.now()))

    async def _has_passed(self, hook: Hook, queue: str, sequence: int) -> bool:
        name = reader_name(hook.name, queue)
        cursor = await self._patiently(partial(Cursors(self._store).load, name))
        return cursor is not None and cursor.sequence >= sequence

    async def _end(self, everything: TaskGroup) -> None:
        """A stop is not held up: neither by a handler that never ends, nor by a store that is away."""
        await self._stopped.wait()
        await anyio.sleep(self._grace.total_seconds() + LEAVING)
        everything.cancel_scope.cancel()

    async def _patiently(self, trip: Callable[[], Awaitable[T]]) -> T:
        return await retry_until_available(trip, clock=self._store.clock, what="the hooks")
