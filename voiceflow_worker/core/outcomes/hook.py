"""One hook: its options and counts, its backlog in the store, and the delivery that delivers outcomes to it."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias, cast

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.base.record_set import json_records
from voiceflow_worker.core.base.round_trips import Retry
from voiceflow_worker.core.outcomes.batch_ends import BatchOutcome, batch_outcome, ended_batches
from voiceflow_worker.core.outcomes.outbox import POLL_EVERY, OutboxReader, outcome_of
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.errors import HookGoneError, InvalidInputError, RetryLaterError, StoreVersionError
from voiceflow_worker.model.jobs.call_json import CallOutcome
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.text.wording import in_words

WAITING = "hook-waiting"
PARKED = "hook-parked"
KEPT_PARKED = timedelta(days=90)


@dataclass(slots=True, kw_only=True)
class PendingOutcome:
    """An outcome that a hook has not received yet.

    `failures` is the number of failed tries, and `error` the last failure. `due_at` is the time of the next try, or
    None to try now.
    """

    event: Event
    failures: int = 0
    first_failed_at: datetime | None = None
    due_at: datetime | None = None
    error: str = ""


class HookBacklog:
    """The records of one hook for one queue: outcomes that wait for delivery, and parked outcomes.

    Records that this version cannot read are left out, but stay in the store for newer versions. Every method raises
    StoreError.
    """

    def __init__(self, store: Store, *, hook: str, queue: str) -> None:
        group = f"{hook}/{queue}"
        self._waiting = json_records(store, WAITING, PendingOutcome).within(group)
        self._parked = json_records(store, PARKED, PendingOutcome, keep_for=KEPT_PARKED).within(group)

    async def keep(self, entries: Sequence[PendingOutcome]) -> None:
        """Store outcomes that wait for delivery, in their present state."""
        await self._waiting.put(self._by_key(entries))

    async def waiting(self) -> list[PendingOutcome]:
        """All outcomes that wait, oldest first."""
        return await self._waiting.values()

    async def drop(self, entry: PendingOutcome) -> None:
        """Delete an outcome that was delivered."""
        await self._waiting.remove(self._by_key([entry]))

    async def park(self, entry: PendingOutcome) -> None:
        """Park an outcome that was given up."""
        await self._parked.put(self._by_key([entry]))
        await self.drop(entry)

    async def parked(self) -> list[PendingOutcome]:
        """All outcomes that were given up, oldest first."""
        return await self._parked.values()

    async def unpark(self, entries: Sequence[PendingOutcome]) -> None:
        """Make parked outcomes wait again, as if they were new."""
        await self.keep([PendingOutcome(event=entry.event) for entry in entries])
        await self._parked.remove(self._by_key(entries))

    def _by_key(self, entries: Sequence[PendingOutcome]) -> dict[str, PendingOutcome]:
        return {f"{entry.event.sequence:020d}": entry for entry in entries}


Handler: TypeAlias = Callable[[CallOutcome], Awaitable[object] | object]
"""A function that takes one outcome. Its result is ignored. If it is not async, it runs in a thread."""
BatchHandler: TypeAlias = Callable[[BatchOutcome], Awaitable[object] | object]
"""A function that takes the end of a batch, as a `Handler` takes the outcome of a call."""


@checked
@dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions:
    """Limits and retries of a hook.

    `limit` is the time that the handler may take for one outcome. `concurrency` is the number of calls that it handles
    at the same time; the outcomes of one call come one after the other. A failed delivery is tried again after
    `first_wait`, and then after waits that double up to `longest_wait`. The outcome is parked when `give_up_after` has
    passed since the first failure. While `most_waiting` outcomes wait for delivery, no new ones are read.
    """

    limit: timedelta = timedelta(seconds=30)
    concurrency: int = 8
    first_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(minutes=15)
    give_up_after: timedelta = timedelta(days=3)
    most_waiting: int = 1000

    def __post_init__(self) -> None:
        if self.limit <= timedelta() or self.concurrency < 1 or self.most_waiting < 1:
            raise InvalidInputError("a hook needs a limit above 0, and concurrency and most_waiting of at least 1")


@dataclass(slots=True, kw_only=True)
class HookCounts:
    """Counts of one hook in this process.

    `delivered` counts the deliveries that succeeded, `failures` those that failed. `parked` counts outcomes that were
    given up, and `gaps` how often events were deleted before the hook had read them. `waiting` is the number of
    outcomes that wait for delivery now. `is_stopped` means that the handler has raised `HookGoneError`.
    """

    delivered: int = 0
    failures: int = 0
    parked: int = 0
    gaps: int = 0
    waiting: int = 0
    is_stopped: bool = False


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
        self._handler = cast("Callable[[CallOutcome | BatchOutcome], Awaitable[object] | object]", handler)
        self.of_batches = of_batches
        self._only = None if only is None else frozenset(only)
        self._attempts = attempts
        self._threads = threading.Semaphore(self.options.concurrency)

    def wants(self, event: Event) -> bool:
        """Whether this hook receives the outcome of an event."""
        if event.kind is EventKind.ATTEMPTED and not self._attempts:
            return False
        return self._only is None or event.state in self._only

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


STAND_BY = timedelta(seconds=2)
LOOK_FOR_UNPARKED = timedelta(minutes=1)

_log = structlog.get_logger("voiceflow.hooks")


def reader_name(hook: str, queue: str) -> str:
    """The name under which a hook's position in a queue and its lease for the queue are stored."""
    return f"hook/{hook}/{queue}"


class HookDelivery:
    """Delivers the outcomes of one queue to one hook, while this process holds the lease for them.

    Outcomes are first stored in the hook's backlog; then the hook's position in the outbox moves past them. Each is
    delivered from the backlog, and deleted there when it was delivered. After a crash, only outcomes that were being
    delivered are delivered again.
    """

    def __init__(self, store: Store, hook: Hook, queue: str, *, since: datetime) -> None:
        self.hook = hook
        self._store = store
        self._queue = queue
        self._clock = store.clock
        self._name = reader_name(hook.name, queue)
        self._lease = LeaderLease(store, self._name)
        self._reader = OutboxReader(store, queue, name=self._name, since=since)
        self._backlog = HookBacklog(store, hook=hook.name, queue=queue)
        self._retry = Retry(store.clock, what=f"hook {hook.name}")
        self._log = _log.bind(hook=hook.name, queue=queue)
        self._chains: dict[str, deque[PendingOutcome]] = {}
        self._held: set[int] = set()  # sequences that are in chains
        self._ends: set[int] = set()  # those of ends of batches, each of which several events of calls may give
        self._slots = anyio.Semaphore(hook.options.concurrency)
        self._is_stopping = False
        self._nap = anyio.CancelScope()

    @property
    def _is_over(self) -> bool:
        return self._is_stopping or self.hook.counts.is_stopped

    async def run(self) -> None:
        """Deliver outcomes or wait for the lease, until `stop` is called or the handler raises HookGoneError."""
        try:
            while not self._is_over:
                if await self._retry(self._lease.take):
                    await self._work()
                else:
                    await self._sleep(STAND_BY)
        finally:
            await self._lease.release()

    def stop(self) -> None:
        """Begin no new delivery; `run` returns when the deliveries in progress have ended."""
        self._is_stopping = True
        self._nap.cancel()

    async def _work(self) -> None:
        """Deliver until the end, or until the lease is lost."""
        self._slots = anyio.Semaphore(self.hook.options.concurrency)
        try:
            async with anyio.create_task_group() as group:
                await self._take_up(group)
                if self._is_over:
                    # No delivery begins any more: when all slots are free, those in progress have ended.
                    for _ in range(self.hook.options.concurrency):
                        await self._slots.acquire()
                group.cancel_scope.cancel()
        finally:
            self.hook.counts.waiting -= len(self._held)
            self._held.clear()
            self._chains.clear()

    async def _take_up(self, group: TaskGroup) -> None:
        """Take up outcomes from the backlog and from the outbox, until the end or until the lease is lost."""
        await self._retry(self._reader.open)
        self._add(await self._retry(self._backlog.waiting), group)
        # A process that was killed before it moved the position has left outcomes in the backlog that are read once
        # more.
        known = frozenset(self._held)
        looked_at = self._clock.monotonic()
        while not self._is_over:
            if not self._lease.is_fresh and not await self._retry(self._lease.take):
                self._log.warning("another process has the lease of a hook; this one delivers nothing meanwhile")
                return
            if self._clock.monotonic() - looked_at >= LOOK_FOR_UNPARKED.total_seconds():
                await self._take_up_unparked(group)
                looked_at = self._clock.monotonic()
            if len(self._held) < self.hook.options.most_waiting:
                await self._take_up_new(known, group)
            if self._reader.is_behind and len(self._held) < self.hook.options.most_waiting:
                continue
            await self._sleep(POLL_EVERY)

    async def _take_up_new(self, known: frozenset[int], group: TaskGroup) -> None:
        gaps = self._reader.gaps
        page = await self._retry(self._reader.page)
        self.hook.counts.gaps += self._reader.gaps - gaps
        if self.hook.of_batches:
            ends = await self._retry(partial(ended_batches, self._store, self._queue, page))
            page = [event for event in ends if event.sequence not in self._ends]
            self._ends |= {event.sequence for event in page}
        new = [PendingOutcome(event=event) for event in page if self.hook.wants(event) and event.sequence not in known]
        await self._retry(partial(self._backlog.keep, new))
        await self._retry(partial(self._reader.save, self._reader.position))
        self._add(new, group)

    async def _take_up_unparked(self, group: TaskGroup) -> None:
        """Take up outcomes that a person requeued (`OutcomeHooks.retry_parked`)."""
        held = frozenset(self._held)  # before the backlog is read: it may still show what is delivered meanwhile
        waiting = await self._retry(self._backlog.waiting)
        self._add([entry for entry in waiting if entry.event.sequence not in held], group)

    def _add(self, entries: list[PendingOutcome], group: TaskGroup) -> None:
        for entry in entries:
            self._held.add(entry.event.sequence)
            self.hook.counts.waiting += 1
            if chain := self._chains.get(entry.event.job_id):
                chain.append(entry)
            else:
                self._chains[entry.event.job_id] = deque([entry])
                group.start_soon(self._serve, entry.event.job_id, group)

    async def _serve(self, job_id: str, group: TaskGroup) -> None:
        """Deliver the outcomes of one call, in order."""
        chain = self._chains[job_id]
        while chain:
            entry = chain[0]
            if entry.due_at is not None:
                await self._clock.sleep((entry.due_at - self._clock.now()).total_seconds())
            async with self._slots:
                if self._is_over:
                    return
                is_done = await self._deliver(entry, group)
            if is_done:
                chain.popleft()
                self._held.discard(entry.event.sequence)
                self.hook.counts.waiting -= 1
        del self._chains[job_id]

    async def _deliver(self, entry: PendingOutcome, group: TaskGroup) -> bool:
        """Deliver one outcome. Returns False when it must be delivered again."""
        job_id, counts = entry.event.job_id, self.hook.counts
        try:
            if self.hook.of_batches:
                end = await self._retry(partial(batch_outcome, self._store, self._queue, entry.event))
                await self.hook.deliver(end)
            elif (job := (await self._retry(partial(get_jobs, self._store, [job_id]))).get(job_id)) is None:
                entry.error = "the call was deleted before this outcome could be delivered"
                await self._park(entry)
                return True
            else:
                await self.hook.deliver(outcome_of(entry.event, job))
        except StoreVersionError as error:
            return await self._failed(entry, error)
        except RetryLaterError as error:
            return await self._failed(entry, error, wanted=error.after)
        except HookGoneError as error:
            if not counts.is_stopped:  # a concurrent delivery may have stopped the hook
                counts.is_stopped = True
                self._log.error(
                    "a hook has stopped itself; it receives no outcomes until it is run again", why=str(error)
                )
            group.cancel_scope.cancel()
            return False
        counts.delivered += 1
        await self._retry(partial(self._backlog.drop, entry))
        return True

    async def _failed(self, entry: PendingOutcome, failure: Exception, *, wanted: timedelta | None = None) -> bool:
        """Put off an outcome whose delivery failed, or give it up. Returns True when it is given up."""
        options, now = self.hook.options, self._clock.now()
        self.hook.counts.failures += 1
        entry.failures += 1
        entry.error = str(failure)[:500]
        entry.first_failed_at = entry.first_failed_at or now
        seed = f"{self._name}/{entry.event.sequence}"
        wait = backoff(entry.failures, first=options.first_wait, longest=options.longest_wait, seed=seed)
        entry.due_at = now + max(wait, wanted or wait)
        # The wait that the handler asked for is left out: with a wait of days, the outcome would be given up at once.
        if now + wait - entry.first_failed_at >= options.give_up_after:
            await self._park(entry)
            return True
        await self._retry(partial(self._backlog.keep, [entry]))
        self._log.warning(
            "a hook failed; the outcome will be delivered again",
            job=entry.event.job_id,
            failures=entry.failures,
            next_try=in_words(entry.due_at),
            error=entry.error,
        )
        return False

    async def _park(self, entry: PendingOutcome) -> None:
        await self._retry(partial(self._backlog.park, entry))
        self.hook.counts.parked += 1
        self._log.error(
            "an outcome could not be delivered to a hook; it is parked for 90 days: `retry_parked` delivers it again",
            job=entry.event.job_id,
            failures=entry.failures,
            error=entry.error,
        )

    async def _sleep(self, duration: timedelta) -> None:
        """Sleep for this time, or until `stop`."""
        if not self._is_stopping:
            with anyio.CancelScope() as self._nap:
                await self._clock.sleep(duration.total_seconds())
