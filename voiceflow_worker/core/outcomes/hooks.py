"""Hooks of a program: its own functions, called with each outcome, or with each end of a batch, at least once."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TypeAlias, TypeVar, cast

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from voiceflow_worker.core.base.background import BackgroundTasks
from voiceflow_worker.core.base.identity import QueueNames, checked_queue, checked_reader
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.base.record_set import RecordSet, json_records
from voiceflow_worker.core.base.round_trips import Retry
from voiceflow_worker.core.outcomes.batch_ends import BatchEnds, BatchOutcome, batch_outcome
from voiceflow_worker.core.outcomes.outbox import POLL_EVERY, Consumer, outcome_of, position_at, positions
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.errors import HookGoneError, InvalidInputError, RetryLaterError, StoreVersionError
from voiceflow_worker.model.jobs.call_json import CallOutcome
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.text.wording import in_words

SINCE, WAITING = "hook-since", "hook-waiting"
STAND_BY = timedelta(seconds=2)
OUTSTANDING_WITHIN, LOOK_AGAIN = timedelta(minutes=10), timedelta(seconds=1)
"""How long the end of a batch waits for the outcomes of its calls, and how often it looks."""
LOOK_FOR_QUEUES = timedelta(seconds=5)
LOOK_FOR_PROGRESS = timedelta(milliseconds=100)

_log = structlog.get_logger("voiceflow.hooks")

Handler: TypeAlias = Callable[[CallOutcome], Awaitable[object] | object]
"""A function that takes one outcome. Its result is ignored. If it is not async, it runs in a thread."""
BatchHandler: TypeAlias = Callable[[BatchOutcome], Awaitable[object] | object]
"""A function that takes the end of a batch, as a `Handler` takes the outcome of a call."""
AnyHandler = TypeVar("AnyHandler", bound=Handler)
AnyBatchHandler = TypeVar("AnyBatchHandler", bound=BatchHandler)


@checked
@dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions:
    """Limits and retries of a hook.

    `limit` is the time that the handler may take for one outcome. `concurrency` is the number of calls that it handles
    at the same time; the outcomes of one call come one after the other. A failed delivery is tried again after
    `first_wait`, and then after waits that double up to `longest_wait`. While
    `most_waiting` outcomes wait for delivery, no new ones are read. The end of a
    batch comes `after` the outcomes of its calls have reached the hook of this name, or ten minutes after the batch has
    ended; then it says how many are outstanding.
    """

    limit: timedelta = timedelta(seconds=30)
    concurrency: int = 8
    first_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(minutes=15)
    most_waiting: int = 1000
    after: str | None = None

    def __post_init__(self) -> None:
        if self.limit <= timedelta() or self.concurrency < 1 or self.most_waiting < 1:
            raise InvalidInputError("a hook needs a limit above 0, and concurrency and most_waiting of at least 1")


@dataclass(slots=True, kw_only=True)
class HookCounts:
    """Counts of one hook in this process.

    `delivered` counts the deliveries that succeeded, `failures` those that failed. `waiting` is the number of outcomes
    that wait for delivery now. `is_stopped` means that the handler has raised `HookGoneError`.
    """

    delivered: int = 0
    failures: int = 0
    waiting: int = 0
    is_stopped: bool = False


@dataclass(slots=True, kw_only=True)
class PendingOutcome:
    """An outcome that a hook has not received yet: a record from when it is read until it is delivered.

    `failures` is the number of failed tries, and `error` the last failure. `due_at` is the time of the next try, or
    None to try now.
    """

    event: Event
    failures: int = 0
    due_at: datetime | None = None
    error: str = ""

    @property
    def key(self) -> str:
        """The key of its record. The oldest comes first."""
        return f"{self.event.sequence:020d}"


def waiting(store: Store, hook: str, queue: str) -> RecordSet[PendingOutcome]:
    """The outcomes of a queue that wait for delivery to a hook, by their keys."""
    return json_records(store, WAITING, PendingOutcome).within(f"{hook}/{queue}")


class Hook:
    """A handler with its name and options. `only` are the states whose outcomes it receives; None means all.

    A hook `of_batches` receives the ends of batches instead of the outcomes of calls.
    """

    def __init__(
        self,
        name: str,
        handler: Handler | BatchHandler,
        *,
        of_batches: bool = False,
        only: Iterable[JobState] | None = None,
        attempts: bool = True,
        options: HookOptions | None = None,
    ) -> None:
        self.name = name
        self.options: HookOptions = options or HookOptions()
        self.counts: HookCounts = HookCounts()
        self.of_batches = of_batches
        self._handler = cast("Callable[[CallOutcome | BatchOutcome], Awaitable[object] | object]", handler)
        of_calls = {EventKind.ENDED, EventKind.ATTEMPTED} if attempts else {EventKind.ENDED}
        self._kinds = {EventKind.BATCH_ENDED} if of_batches else of_calls
        self._only = None if only is None else frozenset(only)
        self._threads = threading.Semaphore(self.options.concurrency)

    def wants(self, event: Event) -> bool:
        """Whether this hook receives the outcome of an event."""
        return event.kind in self._kinds and (self._only is None or event.state in self._only)

    async def deliver(self, outcome: CallOutcome | BatchOutcome) -> None:
        """Call the handler within its time limit. Raises its `HookGoneError`, and `RetryLaterError` if it failed."""
        limit = self.options.limit.total_seconds()
        with anyio.move_on_after(limit):
            try:
                return await self._call(outcome)
            except (HookGoneError, RetryLaterError):
                raise
            except Exception as error:
                raise RetryLaterError(f"{type(error).__name__}: {error}") from error
        raise RetryLaterError(f"the handler took longer than {limit:g} s")

    async def _call(self, outcome: CallOutcome | BatchOutcome) -> None:
        handler = self._handler
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004 - an object with an async __call__
            result = handler(outcome)
        else:
            # With its own limiter, so that other threads, such as those of the store, do not wait for a handler.
            result = await anyio.to_thread.run_sync(
                self._call_in_thread, outcome, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
            )
        if inspect.isawaitable(result):
            await result

    def _call_in_thread(self, outcome: CallOutcome | BatchOutcome) -> Awaitable[object] | object:
        # A thread cannot be ended. One that hangs is left behind after its time limit, but is still counted. So retries
        # cannot add more and more of them.
        if not self._threads.acquire(blocking=False):
            raise RetryLaterError(f"all {self.options.concurrency} threads of this hook are busy: it does not return")
        try:
            return self._handler(outcome)
        finally:
            self._threads.release()


class HookDelivery:
    """Delivers the outcomes of one queue to one hook, while this process is its consumer.

    Outcomes that are read are stored with the position behind them, and dropped when they were delivered. So after a
    crash, only those are delivered again that were being delivered.
    """

    def __init__(self, store: Store, hook: Hook, queue: str, *, since: datetime) -> None:
        self.hook = hook
        self._store = store
        self._queue = queue
        self._clock = store.clock
        self._name = _consumer_name(hook.name, queue)
        self._consumer = Consumer(store, queue, name=self._name, since=since)
        self._waiting = waiting(store, hook.name, queue)
        self._retry = Retry(store.clock, what=f"hook {hook.name}")
        self._log = _log.bind(hook=hook.name, queue=queue)
        self._entries: dict[int, PendingOutcome] = {}  # those that wait, in order
        self._calls: set[str] = set()  # whose outcomes are being delivered
        self._is_stopping = False
        self._nap = anyio.CancelScope()

    @property
    def _is_over(self) -> bool:
        return self._is_stopping or self.hook.counts.is_stopped

    async def run(self) -> None:
        """Deliver outcomes or wait for the lease, until `stop` is called or the handler raises HookGoneError."""
        try:
            while not self._is_over:
                if await self._retry(self._consumer.hold):
                    await self._work()
                else:
                    await self._sleep(STAND_BY)
        finally:
            await self._consumer.release()

    def stop(self) -> None:
        """Begin no new delivery; `run` returns when the deliveries in progress have ended."""
        self._is_stopping = True
        self._nap.cancel()

    async def _work(self) -> None:
        """Deliver until the end, or until the lease is lost."""
        consumer, moves = self._consumer, self._consumer.moves
        consumer.rewind()
        ends = BatchEnds(self._store, self._queue, consumer) if self.hook.of_batches else None
        try:
            self._add(await self._retry(self._waiting.values))  # what was left
            async with anyio.create_task_group() as group:
                while not self._is_over and await self._retry(consumer.hold) and moves == consumer.moves:
                    has_room = len(self._entries) < self.hook.options.most_waiting
                    if has_room:
                        await self._take_up_new(ends)
                    self._begin(group)
                    if not (has_room and consumer.is_behind):
                        await self._sleep(POLL_EVERY)
                if not self._is_over:
                    self._log.warning("another process has the lease of a hook; this one delivers nothing meanwhile")
                    group.cancel_scope.cancel()
        finally:
            self.hook.counts.waiting -= len(self._entries)
            self._entries.clear()
            self._calls.clear()

    async def _take_up_new(self, ends: BatchEnds | None) -> None:
        consumer = self._consumer
        page = await self._retry(consumer.page if ends is None else ends.page)
        new = [PendingOutcome(event=event) for event in page if self.hook.wants(event)]
        position = consumer.position if ends is None else ends.position
        puts = self._waiting.puts({entry.key: entry for entry in new})
        if await self._retry(partial(consumer.save, position, puts=puts)):
            self._add(new)
        else:
            consumer.rewind()

    def _add(self, new: Iterable[PendingOutcome]) -> None:
        before = len(self._entries)
        self._entries = dict(sorted(({entry.event.sequence: entry for entry in new} | self._entries).items()))
        self.hook.counts.waiting += len(self._entries) - before

    def _begin(self, group: TaskGroup) -> None:
        """Begin to deliver what is due and is the first of its call."""
        now, first = self._clock.now(), dict[str, PendingOutcome]()
        for entry in self._entries.values():
            first.setdefault(entry.event.job_id, entry)
        for call, entry in first.items():
            if self._is_over or len(self._calls) >= self.hook.options.concurrency:
                return
            if call not in self._calls and (entry.due_at is None or entry.due_at <= now):
                self._calls.add(call)
                group.start_soon(self._serve, entry, group)

    async def _serve(self, entry: PendingOutcome, group: TaskGroup) -> None:
        if await self._deliver(entry):
            await self._retry(partial(self._waiting.remove, [entry.key]))
            del self._entries[entry.event.sequence]
            self.hook.counts.waiting -= 1
        self._calls.remove(entry.event.job_id)
        self._begin(group)

    async def _deliver(self, entry: PendingOutcome) -> bool:
        """Deliver one outcome. Returns False when it must be delivered again."""
        counts = self.hook.counts
        try:
            outcome = await self._retry(partial(self._outcome, entry.event))
            if outcome is None:
                self._log.error("a call was deleted before its outcome could be delivered", job=entry.event.job_id)
                return True
            if isinstance(outcome, BatchOutcome) and (
                left := await self._retry(partial(self._outstanding, entry.event))
            ):
                if self._clock.now() < entry.event.at + OUTSTANDING_WITHIN:
                    entry.due_at = self._clock.now() + LOOK_AGAIN
                    return False
                outcome = replace(outcome, outstanding=left)
            await self.hook.deliver(outcome)
        except (StoreVersionError, RetryLaterError) as error:
            await self._failed(entry, error)
            return False
        except HookGoneError as error:
            if not counts.is_stopped:  # a concurrent delivery may have stopped the hook
                counts.is_stopped = True
                self._log.error(
                    "a hook has stopped itself; it receives no outcomes until it is run again", why=str(error)
                )
            return False
        counts.delivered += 1
        return True

    async def _outcome(self, event: Event) -> CallOutcome | BatchOutcome | None:
        if event.kind is EventKind.BATCH_ENDED:
            return await batch_outcome(self._store, self._queue, event)
        job = (await get_jobs(self._store, [event.job_id])).get(event.job_id)
        return None if job is None else outcome_of(event, job)

    async def _outstanding(self, end: Event) -> int:
        """How many calls of a batch have outcomes that have not reached the hook which gets them first.

        If that hook has not read as far, there may be one.
        """
        if (first := self.hook.options.after) is None:
            return 0
        left = await waiting(self._store, first, self._queue).values()
        jobs = await get_jobs(self._store, [each.event.job_id for each in left if each.event.sequence < end.sequence])
        if count := sum(job.batch_id == end.job_id for job in jobs.values()):
            return count
        name = _consumer_name(first, self._queue)
        return int(((await positions(self._store).get([name])).get(name) or 0) < end.sequence)

    async def _failed(self, entry: PendingOutcome, failure: StoreVersionError | RetryLaterError) -> None:
        """Put off an outcome whose delivery failed."""
        options, now = self.hook.options, self._clock.now()
        self.hook.counts.failures += 1
        entry.failures += 1
        entry.error = str(failure)[:500]
        seed = f"{self._name}/{entry.event.sequence}"
        wait = backoff(entry.failures, first=options.first_wait, longest=options.longest_wait, seed=seed)
        wanted = failure.after if isinstance(failure, RetryLaterError) else None
        entry.due_at = now + max(wait, wanted or wait)
        await self._retry(partial(self._waiting.put, {entry.key: entry}))
        self._log.warning(
            "a hook failed; the outcome will be delivered again",
            job=entry.event.job_id,
            failures=entry.failures,
            next_try=in_words(entry.due_at),
            error=entry.error,
        )

    async def _sleep(self, duration: timedelta) -> None:
        """Sleep for this time, or until `stop`."""
        if not self._is_stopping:
            with anyio.CancelScope() as self._nap:
                await self._clock.sleep(duration.total_seconds())


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
            await self._background.run("hooks did not look for new queues", partial(self._open_each, deliveries))
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
        for queue in await self._queues():
            for hook in self._hooks.values():
                for _ in range(1 + hook.of_batches):  # the ends of batches come behind the events of their calls
                    end = await self._retry(partial(position_at, self._store, queue, None))
                    while not (hook.counts.is_stopped or await self._has_passed(hook, queue, end)):
                        await self._store.clock.sleep(LOOK_FOR_PROGRESS.total_seconds())

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
        """Begin the delivery for each queue as it becomes known, until `stop`. A new queue is read from its start."""
        since = await self._retry(self._registered)
        while not self._stopped.is_set():
            for queue in sorted(set(await self._queues()) - self._opened):
                self._opened.add(queue)
                self._open(queue, since, deliveries)
            if self._stopped.is_set():
                break
            with anyio.CancelScope() as self._nap:
                await self._store.clock.sleep(LOOK_FOR_QUEUES.total_seconds())

    async def _registered(self) -> Mapping[str, datetime]:
        """For each hook, the time from which it receives outcomes: those of all queues, since it first ran."""
        now = dict.fromkeys(self._hooks, self._since)
        if self._queue is not None:
            return now
        since = RecordSet(
            self._store, SINCE, write=datetime.isoformat, read=lambda _, text: datetime.fromisoformat(text)
        )
        return now | {name: at for name, at in (await since.add(now)).items() if at is not None}

    async def _queues(self) -> list[str]:
        return await self._retry(QueueNames(self._store).known) if self._queue is None else [self._queue]

    async def _has_passed(self, hook: Hook, queue: str, sequence: int) -> bool:
        """Whether the hook has read this far, and has tried each outcome that does not wait behind another."""
        name = _consumer_name(hook.name, queue)
        position = (await self._retry(partial(positions(self._store).get, [name]))).get(name)
        if position is None or position < sequence:
            return False
        first: dict[str, PendingOutcome] = {}
        for entry in await self._retry(waiting(self._store, hook.name, queue).values):
            first.setdefault(entry.event.job_id, entry)
        return all(entry.failures or entry.event.sequence > sequence for entry in first.values())


def _consumer_name(hook: str, queue: str) -> str:
    return f"hook/{hook}/{queue}"
