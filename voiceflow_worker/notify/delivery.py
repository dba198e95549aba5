"""Outcomes on their way to the webhook: at least once each, and with the same id each time.

The outcomes of a page are sent side by side. Failed deliveries are stored with their next attempt, together with the
position of the page, and are retried with backoff beside new outcomes. A body has state and id, so no order is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import anyio
import structlog
from anyio.abc import TaskGroup

from voiceflow_worker.core.base.background import BackgroundTasks, beside
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import ReadJobs, read_each
from voiceflow_worker.core.base.record_set import Codec, RecordSet
from voiceflow_worker.core.base.round_trips import Retry, gather
from voiceflow_worker.core.heartbeats import NOTIFICATIONS
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
from voiceflow_worker.core.ports.store import Drop, Page, Put
from voiceflow_worker.errors import HookGoneError, RetryLaterError
from voiceflow_worker.model.jobs.call_json import CallOutcome
from voiceflow_worker.model.jobs.policy import backoff
from voiceflow_worker.model.text.wording import in_words

HOOK, BATCH_HOOK = "notify", "notify-batches"
"""The names of the deliveries of calls and of batches."""
SINCE, RETRIES = "notify-since", "notify-retry"
AT_ONCE = 20
"""The most outcomes that a delivery sends side by side, of new ones and of retries each."""
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=15)
LOOK_FOR_QUEUES = timedelta(seconds=5)
LOOK_FOR_PROGRESS = timedelta(milliseconds=100)
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)
_COUNTED = 1000

_log = structlog.get_logger("voiceflow.notify")

Handler: TypeAlias = Callable[[CallOutcome | BatchOutcome], Awaitable[None]]
"""What delivers an outcome. It raises `HookGoneError`, and any other error if the outcome must be delivered again."""


@dataclass(slots=True, kw_only=True)
class DeliveryCounts:
    """Counts of one delivery in this process.

    `delivered` counts the outcomes that were accepted, `failures` the attempts that failed. `waiting` is the number of
    outcomes that wait for a retry (of those that another process has left, at most 1,000 are counted). `is_stopped`
    means that the receiver wants no more.
    """

    delivered: int = 0
    failures: int = 0
    waiting: int = 0
    is_stopped: bool = False
    gone: str = ""
    """What the receiver said when it wanted no more."""


@dataclass(frozen=True, slots=True)
class RetryRecord:
    """An outcome whose deliveries have failed so many times."""

    event: Event
    failures: int = 0


_CODEC: Codec[RetryRecord] = Codec(RetryRecord)


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
        self._kind = EventKind.BATCH_ENDED if self._of_batches else EventKind.ENDED
        self._retry = Retry(store.clock, what=f"notifications of {queue}")
        self._log = _log.bind(hook=name, queue=queue)
        self._saving = anyio.Lock()
        self._counted = 0
        self._stopping = anyio.Event()

    @property
    def _is_over(self) -> bool:
        return self._stopping.is_set() or self._counts.is_stopped

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
        self._stopping.set()

    async def _work(self, consumer: Consumer) -> None:
        """Deliver until the end, or until the lease is lost."""
        moves = consumer.moves
        consumer.rewind()
        source = BatchEnds(self._store, self._queue, consumer) if self._of_batches else consumer
        self._count(len(await self._retry(partial(self._due, _COUNTED))))

        async def repeat(send: Callable[[], Awaitable[bool]]) -> None:
            while not self._is_over and await self._hold(consumer) and moves == consumer.moves:
                if not await send():
                    await self._sleep(POLL_EVERY)

        try:
            async with beside(partial(self._keep, consumer)):
                new, due = partial(self._send_new, consumer, source), partial(self._send_due, consumer)
                await gather(partial(repeat, new), partial(repeat, due))
        finally:
            self._count(-self._counted)

    def _count(self, more: int) -> None:
        self._counted += more
        self._counts.waiting += more

    async def _hold(self, consumer: Consumer) -> bool:
        async with self._saving:
            return await self._retry(consumer.hold)

    async def _keep(self, consumer: Consumer) -> None:
        """Keep the lease while outcomes are on their way."""
        while True:
            await self._clock.sleep(READER_LEASE.total_seconds() / 3)
            await self._hold(consumer)

    async def _send_new(self, consumer: Consumer, source: Consumer | BatchEnds) -> bool:
        """Send a page of new outcomes, then store the position after it. Returns whether there may be more."""
        page = await self._retry(source.page)
        new = [RetryRecord(event) for event in page if event.kind is self._kind]
        failed = await self._send(new)
        if not await self._save(consumer, source.position, puts=failed):
            consumer.rewind()
        return bool(new) or consumer.is_behind

    async def _send_due(self, consumer: Consumer) -> bool:
        """Send the outcomes whose retry is due. Returns whether there were any."""
        now = self._clock.now()
        due = {
            member: each
            for member, each in (await self._retry(partial(self._due, AT_ONCE))).items()
            if _at(member) <= now
        }
        failed = await self._send([*due.values()])
        await self._save(consumer, 0, puts=failed, drops=[Drop(RETRIES, self._line, None, each) for each in due])
        return bool(due)

    async def _due(self, limit: int) -> dict[str, RetryRecord]:
        """Return the first retries by their members, in the order of their times."""
        found = await self._store.records({RETRIES: Page(group=self._line, limit=limit)}, now=self._clock.now())
        return {record.member: _CODEC.value(record.value) for record in found[RETRIES]}

    async def _save(
        self, consumer: Consumer, position: int, *, puts: Sequence[Put], drops: Sequence[Drop] = ()
    ) -> bool:
        """Store a position and retries in one write. Returns whether this process still has the lease."""
        async with self._saving:
            is_saved = await self._retry(partial(consumer.save, position, puts=puts, drops=drops))
        if is_saved:
            self._count(len(puts) - len(drops))
        return is_saved

    async def _send(self, records: Sequence[RetryRecord]) -> list[Put]:
        """Send these outcomes, so many side by side. Returns the retries of those that were not delivered."""
        if not records:
            return []
        jobs = ReadJobs({}, {})
        if not self._of_batches:
            ids = [*{each.event.job_id: None for each in records}]
            jobs = await self._retry(partial(read_each, self._store, ids))
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def attempt(record: RetryRecord) -> Put | None:
            async with limiter:
                return await self._attempt(record, jobs)

        return [put for put in await gather(*(partial(attempt, each) for each in records)) if put is not None]

    async def _attempt(self, record: RetryRecord, jobs: ReadJobs) -> Put | None:
        """Deliver an outcome. Returns its retry if it was not delivered."""
        event = record.event
        if self._is_over:
            return _put(self._line, record, at=self._clock.now())
        try:
            outcome: CallOutcome | BatchOutcome
            if self._of_batches:
                outcome = await self._retry(partial(batch_outcome, self._store, self._queue, event))
            elif event.job_id in jobs.unreadable:
                raise jobs.unreadable[event.job_id]
            elif (job := jobs.jobs.get(event.job_id)) is not None:
                outcome = outcome_of(event, job)
            else:
                self._log.error("a call was deleted before its outcome could be delivered", job=event.job_id)
                return None
            await self._handler(outcome)
        except HookGoneError as error:
            if not self._counts.is_stopped:  # a concurrent delivery may have stopped it
                self._counts.is_stopped, self._counts.gone = True, str(error)
                self._log.error("notifications have stopped until the next start", why=str(error))
            return _put(self._line, record, at=self._clock.now())
        except Exception as error:  # noqa: BLE001 - whatever it is, the outcome comes again
            return self._put_off(record, error)
        self._counts.delivered += 1
        return None

    def _put_off(self, record: RetryRecord, failure: Exception) -> Put:
        """Return the next attempt of an outcome whose delivery failed."""
        self._counts.failures += 1
        failures, seed = record.failures + 1, f"{self._line}/{record.event.sequence}"
        wait = backoff(failures, first=FIRST_WAIT, longest=LONGEST_WAIT, seed=seed)
        wanted = failure.after if isinstance(failure, RetryLaterError) else None
        at = self._clock.now() + max(wait, wanted or wait)
        self._log.warning(
            "an outcome was not delivered, and will be sent again",
            job=record.event.job_id,
            failures=failures,
            next_try=in_words(at),
            error=str(failure)[:500],
        )
        return _put(self._line, RetryRecord(record.event, failures), at=at)

    async def _sleep(self, duration: timedelta) -> None:
        """Sleep for this time, or until `stop`."""
        async with anyio.create_task_group() as group:

            async def wake() -> None:
                await self._stopping.wait()
                group.cancel_scope.cancel()

            group.start_soon(wake)
            await self._clock.sleep(duration.total_seconds())
            group.cancel_scope.cancel()


def _put(line: str, record: RetryRecord, *, at: datetime) -> Put:
    member = f"{(at - _LONG_AGO) // _MICROSECOND:018d} {record.event.sequence:020d}"
    return Put(RETRIES, line, _CODEC.text(record), None, member=member)


def _at(member: str) -> datetime:
    return _LONG_AGO + int(member.split(maxsplit=1)[0]) * _MICROSECOND


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
        """Counts of the deliveries of calls and of batches in this process, by their names."""
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
        return position is not None and position >= sequence

    async def _open_each(self, deliveries: TaskGroup) -> None:
        """Begin the delivery for each queue as it becomes known, until `stop`. A new queue is read from its start."""
        since = await self._retry(self._registered)
        while not self._stopped.is_set():
            if gone := next((each.gone for each in self._counts.values() if each.is_stopped), ""):
                self._background.failed(NOTIFICATIONS, HookGoneError(gone))
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
        """Return the time from which outcomes are delivered: those of all queues, since they first were."""
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
