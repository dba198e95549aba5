"""Hooks of a program: its own functions, called with each outcome at least once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from voiceflow_worker.core.base.background import BackgroundTasks
from voiceflow_worker.core.base.identity import QueueNames, checked_queue, checked_reader
from voiceflow_worker.core.base.record_set import RecordSet
from voiceflow_worker.core.base.round_trips import Retry
from voiceflow_worker.core.outcomes.hook import (
    BatchHandler,
    Handler,
    Hook,
    HookBacklog,
    HookCounts,
    HookDelivery,
    HookOptions,
    PendingOutcome,
    reader_name,
)
from voiceflow_worker.core.outcomes.outbox import last_sequence, positions
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.arguments import checked

SINCE = "hook-since"
LOOK_FOR_QUEUES = timedelta(seconds=5)
POLL_EVERY = timedelta(milliseconds=100)

AnyHandler = TypeVar("AnyHandler", bound=Handler)
AnyBatchHandler = TypeVar("AnyBatchHandler", bound=BatchHandler)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedOutcome:
    """An outcome that a hook no longer gets, after `failures` failed tries. `error` is the last failure."""

    job_id: str
    state: JobState
    post: int
    at: datetime
    failures: int
    error: str


@checked
class OutcomeHooks:
    """Handlers that receive the outcomes of one queue, or, with `queue` None, of all queues that ever had a worker.

    Each outcome reaches each hook at least once, and the outcomes of one call come in order. `CallOutcome.id` is the
    same at each delivery. Waiting outcomes are kept in the store under the hook's name, so a hook continues after a
    restart. If several processes have a hook of the same name, only one of them delivers at a time. A new hook begins
    with outcomes from the time at which this object was made. `grace` is the time in which handlers may finish after
    `stop`.
    """

    def __init__(
        self, store: Store, *, queue: str | None = "default", grace: timedelta = timedelta(seconds=10)
    ) -> None:
        self._store = store
        self._queue = None if queue is None else checked_queue(queue)
        self._grace = grace
        self._hooks: dict[str, Hook] = {}
        self._deliveries: list[HookDelivery] = []
        self._opened: set[str] = set()
        self._runs = False
        self._stopped = anyio.Event()
        self._nap = anyio.CancelScope()
        self._since = store.clock.now()
        self._retry = Retry(store.clock, what="the hooks")
        self._background = BackgroundTasks(store.clock)

    def on_outcome(
        self,
        *,
        name: str,
        only: Iterable[JobState] | None = None,
        attempts: bool = True,
        options: HookOptions | None = None,
    ) -> Callable[[AnyHandler], AnyHandler]:
        """Register the decorated function as a hook with this name, which must be the same at every start.

        The function takes a `CallOutcome`. If it is not async, it runs in a thread. Any exception is a failure: the
        outcome is delivered again after growing waits (`HookOptions`), and outcomes of other calls are delivered
        meanwhile. The function may raise `RetryLaterError` to set the wait, and `HookGoneError` to receive no more
        outcomes. `only` are the states whose outcomes the function receives; `attempts=False` leaves out attempts that
        are followed by a redial. Raises `InvalidInputError` for a name that is taken or invalid, and if `run` was
        called before.
        """

        def register(handler: AnyHandler) -> AnyHandler:
            self._register(Hook(name, handler, only=only, attempts=attempts, options=options))
            return handler

        return register

    def on_batch_end(
        self, *, name: str, options: HookOptions | None = None
    ) -> Callable[[AnyBatchHandler], AnyBatchHandler]:
        """Register the decorated function as a hook that takes a `BatchOutcome` when a batch has ended.

        A batch has ended when none of its calls waits, is in progress, or is in doubt. It ends again after a redial and
        after further rows, and when a late outcome changes its figures; the ends are numbered. A name of `on_outcome`
        cannot be used again; all else is as there.
        """

        def register(handler: AnyBatchHandler) -> AnyBatchHandler:
            self._register(Hook(name, handler, of_batches=True, options=options))
            return handler

        return register

    def _register(self, hook: Hook) -> None:
        if checked_reader(hook.name) in self._hooks:
            raise InvalidInputError(f"there is a hook {hook.name} already: give each hook a name of its own")
        if self._runs:
            raise InvalidInputError(f"hook {hook.name} was registered too late: register hooks before you call run()")
        self._hooks[hook.name] = hook

    @property
    def counts(self) -> Mapping[str, HookCounts]:
        """The counts of each hook in this process, by its name."""
        return MappingProxyType({name: hook.counts for name, hook in self._hooks.items()})

    async def run(self) -> None:
        """Deliver outcomes until `stop` is called; wait while the store is unavailable."""
        self._runs = True
        async with anyio.create_task_group() as deliveries:
            if self._queue is not None:
                self._open(self._queue, dict.fromkeys(self._hooks, self._since), deliveries)
            else:
                await self._background.run("hooks did not look for new queues", partial(self._open_each, deliveries))
            await self._stopped.wait()
            # Even if a handler never ends, or the store is unavailable.
            deliveries.cancel_scope.deadline = anyio.current_time() + self._grace.total_seconds()

    def stop(self) -> None:
        """Begin no new delivery; `run` returns when the deliveries in progress have ended, or `grace` has passed."""
        self._stopped.set()
        self._nap.cancel()
        for delivery in self._deliveries:
            delivery.stop()

    async def caught_up(self) -> None:
        """Wait until every hook, here or in another process, has received the outcomes that exist now.

        Outcomes that wait for another try after a failure do not count, nor do hooks that have stopped. Waits while the
        store is unavailable.
        """
        names = [self._queue] if self._queue is not None else await self._known_queues()
        for name in names:
            end = await self._retry(partial(last_sequence, self._store, name))
            for hook in self._hooks.values():
                while not (hook.counts.is_stopped or await self._has_passed(hook, name, end)):
                    await self._store.clock.sleep(POLL_EVERY.total_seconds())

    async def parked(self, name: str, *, queue: str = "default") -> list[ParkedOutcome]:
        """The outcomes that were given up for a hook, kept for ninety days. Raises StoreError."""
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

    async def retry_parked(self, name: str, *, queue: str = "default") -> int:
        """Deliver parked outcomes again, beginning within a minute; returns their number. Raises StoreError."""
        book = HookBacklog(self._store, hook=name, queue=queue)
        found = await book.parked()
        if found:
            await book.unpark(found)
        return len(found)

    def _open(self, queue: str, since: Mapping[str, datetime], deliveries: TaskGroup) -> None:
        for hook in self._hooks.values():
            delivery = HookDelivery(self._store, hook, queue, since=since[hook.name])
            self._deliveries.append(delivery)
            if self._stopped.is_set():
                delivery.stop()
            deliveries.start_soon(
                self._background.run, f"hook {hook.name} got no outcomes of queue {queue}", delivery.run
            )

    async def _open_each(self, deliveries: TaskGroup) -> None:
        """Begin the delivery for every queue as it becomes known. A new queue is read from its first call on."""
        since = await self._retry(self._registered)
        opened = self._opened
        while not self._stopped.is_set():
            for queue in sorted(set(await self._known_queues()) - opened):
                opened.add(queue)
                self._open(queue, since, deliveries)
            if self._stopped.is_set():
                break
            with anyio.CancelScope() as self._nap:
                await self._store.clock.sleep(LOOK_FOR_QUEUES.total_seconds())

    async def _registered(self) -> Mapping[str, datetime]:
        """For each hook, the time from which it receives the outcomes of all queues."""
        since = RecordSet(
            self._store, SINCE, write=datetime.isoformat, read=lambda _, text: datetime.fromisoformat(text)
        )
        current = await since.add(dict.fromkeys(self._hooks, self._since))
        return {name: at or self._since for name, at in current.items()}

    async def _known_queues(self) -> list[str]:
        return await self._retry(QueueNames(self._store).known)

    async def _has_passed(self, hook: Hook, queue: str, sequence: int) -> bool:
        """Whether the hook has read this far, and has tried each outcome that does not wait behind another."""
        name = reader_name(hook.name, queue)
        position = (await self._retry(partial(positions(self._store).get, [name]))).get(name)
        if position is None or position < sequence:
            return False
        first: dict[str, PendingOutcome] = {}
        for entry in await self._retry(HookBacklog(self._store, hook=hook.name, queue=queue).waiting):
            first.setdefault(entry.event.job_id, entry)
        return all(entry.failures or entry.event.sequence > sequence for entry in first.values())
