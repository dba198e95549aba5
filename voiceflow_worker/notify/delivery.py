"""Outcomes on their way to the webhook: at least once, in order per call, each tried again beside the others.

What is read waits in the store: under its call, and in one line by due time, in front of which is what was not tried
yet. So what is refused for days holds up nothing else. Nothing is read but the front of the line, however long it is.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import anyio
import structlog
from anyio.abc import TaskGroup

from voiceflow_worker.core.base.background import BackgroundTasks, beside
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import ReadJobs, read_each
from voiceflow_worker.core.base.record_set import Codec, RecordSet, record_pages
from voiceflow_worker.core.base.round_trips import Retry, gather
from voiceflow_worker.core.outcomes.batch_ends import BatchEnds, BatchOutcome, batch_outcome
from voiceflow_worker.core.outcomes.outbox import (
    POLL_EVERY,
    READER_LEASE,
    STAND_BY,
    Consumer,
    outcome_of,
    position_at,
    positions,
)
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.store import Drop, Key, Page, Put, Record
from voiceflow_worker.errors import HookGoneError, RetryLaterError, StoreVersionError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.call_json import CallOutcome
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.text.wording import in_words

HOOK, BATCH_HOOK = "notify", "notify-batches"
"""The names of the deliveries of calls and of batches."""
SINCE, WAITING, DUE = "notify-since", "notify-waiting", "notify-due"
AT_ONCE = 20
"""How many calls have an outcome on its way at the same time."""
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=15)
LONGEST_PAUSE = timedelta(seconds=10)
"""The pause in the line of those that failed, while whatever is tried of it fails again."""
OUTSTANDING_WITHIN, LOOK_AGAIN = timedelta(minutes=10), timedelta(seconds=1)
"""How long the end of a batch waits for the outcomes of its calls, and how often it looks."""
LOOK_FOR_QUEUES = timedelta(seconds=5)
LOOK_FOR_PROGRESS = timedelta(milliseconds=100)
_LONG_AGO, _NEVER = datetime.fromtimestamp(0, UTC), datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COUNTED = 1000

_log = structlog.get_logger("voiceflow.notify")

Handler: TypeAlias = Callable[[CallOutcome | BatchOutcome], Awaitable[None]]
"""What delivers an outcome. It raises `HookGoneError`, and any other error if the outcome must be delivered again."""


@dataclass(slots=True, kw_only=True)
class DeliveryCounts:
    """Counts of one delivery in this process.

    `delivered` counts the outcomes that were accepted, `failures` the tries that failed. `waiting` is the number of
    calls with outcomes that wait (of those that another process has left, at most 1,000 are counted). `is_stopped`
    means that the receiver wants no more.
    """

    delivered: int = 0
    failures: int = 0
    waiting: int = 0
    is_stopped: bool = False


@dataclass(slots=True)
class WaitingOutcomes:
    """The outcomes of one call, or the ends of one batch, that wait in this order; the failed tries of the first."""

    events: Sequence[Event]
    failures: int = 0
    error: str = ""


_CODEC: Codec[WaitingOutcomes] = Codec(WaitingOutcomes)


class _Due(NamedTuple):
    """An entry of the line: whether it was tried before, when it is due, and which `call` of which `batch` it is."""

    member: str
    is_tried: bool
    at: datetime
    batch: str
    call: str

    @classmethod
    def of(cls, record: Record) -> _Due:
        is_tried, micros, _ = record.member.split(" ")
        batch, call = json.loads(record.value)
        return cls(record.member, is_tried == "1", _LONG_AGO + int(micros) * _MICROSECOND, batch, call)


class Delivery:
    """Delivers the outcomes of one queue, or the ends of its batches, while this process is their consumer."""

    def __init__(self, store: Store, handler: Handler, queue: str, *, name: str, counts: DeliveryCounts) -> None:
        self._store = store
        self._handler = handler
        self._queue = queue
        self._clock = store.clock
        self._line = f"{name}/{queue}"
        self._counts = counts
        self._of_batches = name == BATCH_HOOK
        self._kinds = {EventKind.BATCH_ENDED} if self._of_batches else {EventKind.ENDED, EventKind.ATTEMPTED}
        self._retry = Retry(store.clock, what=f"notifications of {queue}")
        self._log = _log.bind(hook=name, queue=queue)
        self._next: datetime = _LONG_AGO
        """When the front of the line is due; nobody else writes to it."""
        self._is_full = False
        """Whether as much as can be on its way waits for its first try."""
        self._pause, self._paused_until = timedelta(), _LONG_AGO
        self._counted = 0
        self._is_stopping = False
        self._nap = anyio.CancelScope()

    @property
    def _is_over(self) -> bool:
        return self._is_stopping or self._counts.is_stopped

    async def run(self, since: datetime) -> None:
        """Deliver outcomes from this time on, or wait for the lease, until `stop` or until the receiver is gone."""
        consumer = Consumer(self._store, self._queue, name=_consumer_name(self._line), since=since)
        try:
            while not self._is_over:
                if await self._retry(consumer.hold):
                    await self._work(consumer)
                else:
                    await self._sleep(STAND_BY)
        finally:
            await consumer.release()

    def stop(self) -> None:
        """Begin no new delivery; `run` returns when the deliveries in progress have ended."""
        self._is_stopping = True
        self._nap.cancel()

    async def _work(self, consumer: Consumer) -> None:
        """Deliver until the end, or until the lease is lost."""
        moves = consumer.moves
        consumer.rewind()
        source = BatchEnds(self._store, self._queue, consumer) if self._of_batches else consumer
        self._next, self._is_full = _LONG_AGO, False
        self._count(len(await self._retry(partial(self._front, _COUNTED))))
        try:
            while not self._is_over and await self._retry(consumer.hold) and moves == consumer.moves:
                is_busy = not self._is_full and await self._take_up(consumer, source)
                if self._next <= self._clock.now():
                    is_busy |= await self._deliver(consumer)
                if not is_busy:
                    await self._sleep(POLL_EVERY)
            if not self._is_over:
                self._log.warning("another process has the lease of notifications; this one sends nothing meanwhile")
        finally:
            self._count(-self._counted)

    def _count(self, more: int) -> None:
        self._counted += more
        self._counts.waiting += more

    async def _take_up(self, consumer: Consumer, source: Consumer | BatchEnds) -> bool:
        """Store a page of new outcomes as waiting, and the position behind them. Returns whether there may be more."""
        page = await self._retry(source.page)
        events = [event for event in page if event.kind in self._kinds]
        jobs: Mapping[str, Job] = {} if self._of_batches else (await self._read(events)).jobs
        batches = {each.job_id: (job.batch_id or "") if (job := jobs.get(each.job_id)) else "" for each in events}
        waiting = await self._waiting(self._place(batch, call) for call, batch in batches.items())
        puts, changed = list[Put](), dict[str, WaitingOutcomes]()
        for event in events:
            call, batch = event.job_id, batches[event.job_id]
            before = changed.get(call) or waiting.get(self._place(batch, call))
            if before is None:
                puts.append(self._due(event, batch, at=None))
            changed[call] = replace(before, events=[*before.events, event]) if before else WaitingOutcomes([event])
        more = len(puts)
        puts += [self._put(self._place(batches[call], call), each) for call, each in changed.items()]
        if not await self._retry(partial(consumer.save, source.position, puts=puts)):
            consumer.rewind()
        elif events:
            self._next = _LONG_AGO
            self._count(more)
        return bool(events) or consumer.is_behind

    async def _read(self, events: Iterable[Event]) -> ReadJobs:
        return await self._retry(partial(read_each, self._store, [*{event.job_id: None for event in events}]))

    async def _deliver(self, consumer: Consumer) -> bool:
        """Try what is at the front of the line and due, and store what came of it. Returns whether there was any."""
        now = self._clock.now()
        front = await self._retry(partial(self._front, AT_ONCE + 1))
        times = [max(each.at, self._paused_until) if each.is_tried else each.at for each in front]
        due = [each for each, at in zip(front[:AT_ONCE], times, strict=False) if at <= now]
        self._next = min((at for each, at in zip(front, times, strict=True) if each not in due), default=_NEVER)
        self._is_full = len(due) == AT_ONCE and not due[-1].is_tried
        if not due:
            return False
        waiting = await self._waiting(self._place(each.batch, each.call) for each in due)
        tries = [_Try(each, left) for each in due if (left := waiting.get(self._place(each.batch, each.call)))]
        read = ReadJobs({}, {}) if self._of_batches else await self._read(each.waiting.events[0] for each in tries)
        async with beside(partial(self._keep, consumer)):
            await gather(*(partial(self._try, each, read) for each in tries))
        puts, drops = list[Put](), list[Drop]()
        for each in tries:
            place, left = self._place(each.due.batch, each.due.call), each.waiting
            if each.is_done:
                left = WaitingOutcomes(left.events[1:])
            if not left.events:
                drops.append(Drop(WAITING, place[0], None, place[1]))
                continue
            again = self._due(left.events[0], each.due.batch, at=each.again_at, is_tried=each.has_failed)
            puts += [again, self._put(place, left)]
            self._next = min(self._next, each.again_at or _LONG_AGO)
        stay = {put.member for put in puts if put.namespace == DUE}
        drops += [Drop(DUE, self._line, None, each.member) for each in due if each.member not in stay]
        self._brake(tries)
        if await self._retry(partial(consumer.save, 0, puts=puts, drops=drops)):
            self._count(len(stay) - len(due))
        else:
            consumer.rewind()
        return True

    def _brake(self, tries: Sequence[_Try]) -> None:
        """Pause in the line of those that failed, while a whole round of them fails again."""
        again = [each for each in tries if each.due.is_tried]
        if any(each.is_done for each in again):
            self._pause = timedelta()
        elif len(again) == AT_ONCE:
            self._pause = min(max(2 * self._pause, FIRST_WAIT), LONGEST_PAUSE)
            self._paused_until = self._clock.now() + self._pause

    async def _keep(self, consumer: Consumer) -> None:
        """Keep the lease while outcomes are on their way."""
        while True:
            await self._clock.sleep(READER_LEASE.total_seconds() / 3)
            await self._retry(consumer.hold)

    async def _try(self, each: _Try, read: ReadJobs) -> None:
        """Deliver the first outcome of a call, and note what came of it."""
        event, now = each.waiting.events[0], self._clock.now()
        try:
            outcome: CallOutcome | BatchOutcome
            if self._of_batches:
                is_late = now >= event.at + OUTSTANDING_WITHIN
                left = await self._retry(partial(self._outstanding, event, counted=is_late))
                if left and not is_late:
                    each.again_at = now + LOOK_AGAIN
                    return
                ended = await self._retry(partial(batch_outcome, self._store, self._queue, event))
                outcome = replace(ended, outstanding=left)
            elif event.job_id in read.unreadable:
                raise read.unreadable[event.job_id]
            elif (job := read.jobs.get(event.job_id)) is not None:
                outcome = outcome_of(event, job)
            else:
                self._log.error("a call was deleted before its outcome could be delivered", job=event.job_id)
                each.is_done = True
                return
            await self._handler(outcome)
        except HookGoneError as error:
            each.again_at = now
            if not self._counts.is_stopped:  # a concurrent delivery may have stopped it
                self._counts.is_stopped = True
                self._log.error("notifications have stopped until the next start", why=str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the outcome comes again
            self._failed(each, error)
        else:
            each.is_done = True
            self._counts.delivered += 1

    def _failed(self, each: _Try, failure: Exception) -> None:
        """Put off an outcome whose delivery failed."""
        left, event = each.waiting, each.waiting.events[0]
        self._counts.failures += 1
        left.failures += 1
        left.error = str(failure)[:500]
        seed = f"{self._line}/{event.sequence}"
        wait = backoff(left.failures, first=FIRST_WAIT, longest=LONGEST_WAIT, seed=seed)
        wanted = failure.after if isinstance(failure, RetryLaterError) else None
        each.again_at, each.has_failed = self._clock.now() + max(wait, wanted or wait), True
        self._log.warning(
            "an outcome was not delivered, and will be sent again",
            job=event.job_id,
            failures=left.failures,
            next_try=in_words(each.again_at),
            error=left.error,
        )

    async def _outstanding(self, end: Event, *, counted: bool) -> int:
        """How many calls of a batch have undelivered outcomes of before its end; not `counted`, whether any has.

        If the outcomes of calls have not been read as far, there may be one.
        """
        line, count = f"{HOOK}/{self._queue}", 0
        async for page in record_pages(self._store, WAITING, group=f"{line}/{end.job_id}", limit=100):
            waiting = [_CODEC.value(record.value) for record in page]
            count += sum(each.events[0].sequence < end.sequence for each in waiting)
            if count and not counted:
                return count
        name = _consumer_name(line)
        return count or int(((await positions(self._store).get([name])).get(name) or 0) < end.sequence)

    async def _front(self, limit: int) -> list[_Due]:
        return await front_of(self._store, self._line, limit)

    async def _waiting(self, places: Iterable[Key]) -> dict[Key, WaitingOutcomes]:
        if not (keys := [*places]):
            return {}
        read = partial(self._store.records, {WAITING: keys}, now=self._clock.now())
        found = (await self._retry(read))[WAITING]
        try:
            return {(each.group, each.member): _CODEC.value(each.value) for each in found}
        except ValueError as error:
            raise StoreVersionError(f"outcomes that wait were written by a newer version: {error}. Upgrade") from error

    def _place(self, batch: str, call: str) -> Key:
        return f"{self._line}/{batch}", call

    @staticmethod
    def _put(place: Key, waiting: WaitingOutcomes) -> Put:
        return Put(WAITING, place[0], _CODEC.text(waiting), None, member=place[1])

    def _due(self, event: Event, batch: str, *, at: datetime | None, is_tried: bool = False) -> Put:
        micros = 0 if at is None else (at - _LONG_AGO) // _MICROSECOND
        member = f"{int(is_tried)} {micros:018d} {event.sequence:020d}"
        return Put(DUE, self._line, json.dumps([batch, event.job_id]), None, member=member)

    async def _sleep(self, duration: timedelta) -> None:
        """Sleep for this time, or until `stop`."""
        if not self._is_stopping:
            with anyio.CancelScope() as self._nap:
                await self._clock.sleep(duration.total_seconds())


@dataclass(slots=True)
class _Try:
    """The try to deliver the first outcome of a call, and what came of it."""

    due: _Due
    waiting: WaitingOutcomes
    is_done: bool = False
    has_failed: bool = False
    again_at: datetime | None = None


async def front_of(store: Store, line: str, limit: int) -> list[_Due]:
    """The first entries of a line. Raises StoreError."""
    found = await store.records({DUE: Page(group=line, limit=limit)}, now=store.clock.now())
    return [_Due.of(record) for record in found[DUE]]


class Notifications:
    """The outcomes of one queue, or, with `queue` None, of all queues that ever had a worker, and who delivers them.

    Each outcome is delivered at least once, with the same id each time. If several processes deliver, only one of them
    does at a time. The first one ever begins with outcomes from the time at which it was made. `grace` is the time in
    which deliveries may finish after `stop`.
    """

    def __init__(
        self, store: Store, handler: Handler, *, queue: str | None, grace: timedelta = timedelta(seconds=10)
    ) -> None:
        self._store = store
        self._handler = handler
        self._queue = queue
        self._grace = grace
        self._counts = {HOOK: DeliveryCounts(), BATCH_HOOK: DeliveryCounts()}
        self._deliveries: list[Delivery] = []
        self._opened: set[str] = set()
        self._stopped = anyio.Event()
        self._nap = anyio.CancelScope()
        self._since = store.clock.now()
        self._retry = Retry(store.clock, what="notifications")
        self._background = BackgroundTasks(store.clock)

    @property
    def counts(self) -> Mapping[str, DeliveryCounts]:
        """The counts of the deliveries of calls and of batches in this process, by their names."""
        return MappingProxyType(self._counts)

    async def run(self) -> None:
        """Deliver outcomes until `stop` is called; wait while the store is unavailable."""
        async with anyio.create_task_group() as deliveries:
            await self._background.run("notifications did not look for queues", partial(self._open_each, deliveries))
            # Even if a delivery never ends, or the store is unavailable.
            deliveries.cancel_scope.deadline = anyio.current_time() + self._grace.total_seconds()

    def stop(self) -> None:
        """Begin no new delivery; `run` returns when the deliveries in progress have ended, or `grace` has passed."""
        self._stopped.set()
        self._nap.cancel()
        for delivery in self._deliveries:
            delivery.stop()

    async def caught_up(self) -> None:
        """Wait until what has happened by now was tried, here or in another process, or the receiver wants no more.

        Waits while the store is unavailable.
        """
        for queue in await self._queues():
            for name, counts in self._counts.items():
                for _ in range(1 + (name == BATCH_HOOK)):  # the ends of batches come behind the events of their calls
                    end = await self._retry(partial(position_at, self._store, queue, None))
                    while not (counts.is_stopped or await self._has_passed(f"{name}/{queue}", end)):
                        await self._store.clock.sleep(LOOK_FOR_PROGRESS.total_seconds())

    async def _has_passed(self, line: str, sequence: int) -> bool:
        name = _consumer_name(line)
        position = (await self._retry(partial(positions(self._store).get, [name]))).get(name)
        if position is None or position < sequence:
            return False
        return all(each.is_tried for each in await self._retry(partial(front_of, self._store, line, 1)))

    async def _open_each(self, deliveries: TaskGroup) -> None:
        """Begin the delivery for each queue as it becomes known, until `stop`. A new queue is read from its start."""
        since = await self._retry(self._registered)
        while not self._stopped.is_set():
            for queue in sorted(set(await self._queues()) - self._opened):
                self._opened.add(queue)
                for name, counts in self._counts.items():
                    delivery = Delivery(self._store, self._handler, queue, name=name, counts=counts)
                    self._deliveries.append(delivery)
                    if self._stopped.is_set():
                        delivery.stop()
                    part = f"no outcomes of queue {queue} were delivered"
                    deliveries.start_soon(self._background.run, part, partial(delivery.run, since[name]))
            if self._stopped.is_set():
                break
            with anyio.CancelScope() as self._nap:
                await self._store.clock.sleep(LOOK_FOR_QUEUES.total_seconds())

    async def _registered(self) -> Mapping[str, datetime]:
        """The time from which outcomes are delivered: those of all queues, since they first were."""
        now = dict.fromkeys(self._counts, self._since)
        if self._queue is not None:
            return now
        since = RecordSet(
            self._store, SINCE, write=datetime.isoformat, read=lambda _, text: datetime.fromisoformat(text)
        )
        return now | {name: at for name, at in (await since.add(now)).items() if at is not None}

    async def _queues(self) -> list[str]:
        return await self._retry(QueueNames(self._store).known) if self._queue is None else [self._queue]


def _consumer_name(line: str) -> str:
    return f"hook/{line}"
