"""Outcomes as events: who reads them and how far, the stream of a queue, and the wait for one call's outcome.

Events are kept as long as ended jobs (`CallPolicy.retention`, 30 days). Then the sweep deletes them, read or not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from math import inf
from types import TracebackType
from typing import Self, TypeVar

import anyio
import structlog

from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.reading import get_jobs, read_each
from voiceflow_worker.core.base.record_set import RecordSet
from voiceflow_worker.core.base.round_trips import Batcher, Retry
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Put, Result, Write
from voiceflow_worker.errors import (
    JobNotFoundError,
    OutcomeTimeoutError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.model.jobs.call_json import CallOutcome, OutcomeKind
from voiceflow_worker.model.jobs.job import Job

POSITIONS = "outcome-position"
READER_LEASE = timedelta(seconds=8)
"""How long a reader has the events to itself. If it is killed, another follows a second after that at the latest."""
POLL_EVERY = timedelta(milliseconds=200)

_KINDS = {EventKind.ENDED: OutcomeKind.ENDED, EventKind.ATTEMPTED: OutcomeKind.ATTEMPTED}

_log = structlog.get_logger("voiceflow.outcomes")


class Consumer:
    """Reads the events of one queue, from a position on: the sequence of the last event that was read.

    A consumer with a name keeps its position in the store, and reads only while it holds the lease of this name. One
    without a stored position begins with the first event at `since` or later. Methods raise StoreError.
    """

    def __init__(self, store: Store, queue: str, *, name: str | None, since: datetime) -> None:
        self._store = store
        self._queue = queue
        self._name = name
        self._since = since
        self._lease = None if name is None else LeaderLease(store, name, length=READER_LEASE)
        self._is_waiting = False
        self._is_current = False
        self._saved: int | None = None
        self.position: int = 0
        self.is_behind: bool = True
        """Whether the last page was full, so that there may be more to read."""
        self.moves: int = 0
        """How many times the position was set to the stored one: by the first `hold`, and after another process."""

    async def hold(self) -> bool:
        """Take or keep the lease, and go to the position that another process has stored; False while it reads."""
        if self._lease is not None and not self._lease.is_fresh:
            self._is_current = self._is_current and not self._lease.is_over
            if not await self._lease.take():
                self._waits()
                return False
        self._is_waiting = False
        if not self._is_current:
            stored = None if self._name is None else (await positions(self._store).get([self._name])).get(self._name)
            if stored is None:
                stored = await self._first_position()
            if stored != self._saved:
                self.position = self._saved = stored
                self.moves += 1
            self._is_current = True
        return True

    def _waits(self) -> None:
        if not self._is_waiting:
            why = "another process reads these outcomes; this one follows once that ends, 10 s after a kill at most"
            _log.info(why, reader=self._name, queue=self._queue)
        self._is_waiting = True

    def needs(self, seconds: float) -> None:
        """Have the lease for as long as an outcome may take, after one that took so many seconds."""
        if self._lease is not None:
            self._lease.length = max(self._lease.length, timedelta(seconds=3 * seconds))

    async def release(self) -> None:
        """End the lease, so that another process can read at once."""
        if self._lease is not None:
            await self._lease.release()

    def rewind(self) -> None:
        """Go back to the stored position."""
        self.position = self._saved or 0

    async def page(self, *, limit: int = 100) -> Sequence[Event]:
        """Return the next events."""
        events = await self._store.events(self._queue, after=self.position, limit=limit)
        self.is_behind = len(events) == limit
        if events:
            self.position = events[-1].sequence
        return events

    async def save(self, position: int, *, puts: Sequence[Put] = (), drops: Sequence[Drop] = ()) -> bool:
        """Store how far all is done, with these changes of records; False if the lease was lost, and nothing stored."""
        position = max(position, before := self._saved or 0)
        if self._lease is not None and self._name is not None and (puts or drops or position > before):
            put = Put(POSITIONS, self._name, str(position), None)
            write = Write(conditions=(self._lease.condition,), puts=(put, *puts), drops=(*drops,))
            (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=self._store.clock.now())
            if answer.result is not Result.DONE:
                await self._lease.release()
                return False
            self._saved = position
        return True

    async def _first_position(self) -> int:
        first = await position_at(self._store, self._queue, self._since)
        if self._name is not None:
            await positions(self._store).put({self._name: first})
        return first


def positions(store: Store) -> RecordSet[int]:
    """Return the records of consumers' positions, by the consumers' names. They are kept forever."""
    return RecordSet(store, POSITIONS, write=str, read=lambda _, text: int(text), unreadable=_refused_position)


def outcome_of(event: Event, job: Job) -> CallOutcome:
    """Return the outcome of `job` that an event reports."""
    return CallOutcome(
        job=job, kind=_KINDS[event.kind], state=event.state, post=event.post, at=event.at, sequence=event.sequence
    )


async def position_at(store: Store, queue: str, since: datetime | None) -> int:
    """Return the position just before the first event at this time or later; None is behind the last.

    It asks about 40 times at most. The sequences of events grow roughly with their times, so this finds a position
    among millions of events without reading them all.
    """

    async def is_in_front(sequence: int) -> bool:
        found = await store.events(queue, after=sequence, limit=1)
        return not found or (since is not None and found[0].at >= since)

    low, high = -1, 0
    while not await is_in_front(high):
        low, high = high, 2 * high or 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if await is_in_front(middle) else (middle, high)
    return high


def _refused_position(name: str, error: Exception) -> int:
    raise StoreVersionError(
        f"the position of reader {name} cannot be read by this version of voiceflow-worker, because a newer version "
        "wrote it. Upgrade this installation; nothing was delivered."
    ) from error


STAND_BY = timedelta(seconds=1)


class OutcomeStream:
    """The outcomes of a queue, one after the other, without end; made by `CallQueue.outcomes`.

    Iterate over it with `async for`; it waits while the store is unavailable. With a consumer's name, an outcome counts
    as processed when the next one is requested. If the consumer stops before that, the next consumer of this name gets
    the outcome again. The next consumer begins at once if the stream was closed (by `async with` or `aclose`), else
    within 10 s, or within three times as long as an outcome took, if that is longer.
    """

    def __init__(self, store: Store, queue: str, *, consumer: str | None, since: datetime, attempts: bool) -> None:
        self._store = store
        self._kinds = _KINDS.keys() if attempts else {EventKind.ENDED}
        name = None if consumer is None else f"stream/{consumer}/{queue}"
        self._consumer = Consumer(store, queue, name=name, since=since)
        self._retry = Retry(store.clock, what=f"the outcomes of {queue}")
        self._page: deque[Event] = deque()
        self._done = 0
        self._moves = 0
        self._given_at: float | None = None
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CallOutcome:
        consumer, clock = self._consumer, self._store.clock
        if self._given_at is not None:
            consumer.needs(clock.monotonic() - self._given_at)
        while not self._is_closed:
            if not await self._retry(consumer.hold):
                await clock.sleep(STAND_BY.total_seconds())
                continue
            if self._moves != consumer.moves:
                self._page.clear()
                self._done, self._moves = consumer.position, consumer.moves
            if not await self._retry(partial(consumer.save, self._done)):
                continue
            if self._page:
                outcome = await self._retry(self._next)
                if outcome is not None:
                    self._given_at = clock.monotonic()
                    return outcome
                continue
            page = await self._retry(consumer.page)
            self._page.extend(event for event in page if event.kind in self._kinds)
            if not self._page:
                self._done = consumer.position
            if not page:
                await clock.sleep(POLL_EVERY.total_seconds())
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream. The last outcome that the stream returned does not count as processed."""
        self._is_closed = True
        await self._consumer.release()

    async def _next(self) -> CallOutcome | None:
        """Return the next outcome of the page; None if its call is no longer in the store.

        Raises StoreVersionError for a call that a newer version wrote. The position then stays before the outcome, so
        that no outcome is lost.
        """
        event = self._page[0]
        job = (await get_jobs(self._store, [event.job_id])).get(event.job_id)
        self._page.popleft()
        self._done = event.sequence
        if job is None:
            _log.warning("an outcome is left out: its call has been deleted", job=event.job_id)
            return None
        return outcome_of(event, job)


LOOKS_EVERY = 0.2
LOOKING_SHARE = 0.2
"""The largest share of the time that reads may take. A long read for many waiters is followed by a long pause."""
LOOK_LIMIT = 2.0
"""Seconds after which a read without an answer is given up, as if the store were unavailable. A time-out can be late by
this much."""

Found = TypeVar("Found")


async def wait_until_found(
    store: Store,
    look: Callable[[], Awaitable[Found | None]],
    *,
    timeout: timedelta | None,  # noqa: ASYNC109 - a promise of its own error
    late: Callable[[timedelta], Exception],
    longest_pause: float = LOOKS_EVERY,
) -> Found:
    """Look until something is found, and return it, also while the store is unavailable.

    Raises the error of `late` when `timeout` has passed. Pauses grow up to the longest one. All waiters look at the
    same moments, so that they can share round trips.
    """
    clock, began = store.clock, store.clock.monotonic()
    while True:
        asked, found = clock.monotonic(), None
        with suppress(StoreUnavailableError):
            found = await look()
        if found is not None:
            return found
        now = clock.monotonic()
        left = inf if timeout is None else began + timeout.total_seconds() - now
        if timeout is not None and left <= 0:
            raise late(timeout)
        pause = max(LOOKS_EVERY, min((now - began) / 20, longest_pause), (now - asked) * (1 / LOOKING_SHARE - 1))
        await clock.sleep(max(min(pause - now % pause, left), 0.001))


class OutcomeWatch:
    """Waits for calls of one store to end. All waiters share the round trips."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reads: Batcher[str, Job] = Batcher(self._read)

    async def wait(self, job_id: str, *, timeout: timedelta | None = None) -> Job:  # noqa: ASYNC109 - a promise of its own error
        """Wait until the job has ended, and return it. Raises `OutcomeTimeoutError` and `JobNotFoundError`."""
        state: str | None = None

        async def look() -> Job | None:
            nonlocal state
            job = await self._reads.submit(job_id)
            state = job.state.value
            return job if job.state.is_final else None

        def late(waited: timedelta) -> Exception:
            return OutcomeTimeoutError(job_id, state=state, waited=waited)

        return await wait_until_found(self._store, look, timeout=timeout, late=late)

    async def _read(self, job_ids: Sequence[str]) -> list[Job | BaseException]:
        with anyio.move_on_after(LOOK_LIMIT):
            found = await read_each(self._store, list(dict.fromkeys(job_ids)))
            return [found.jobs.get(each) or found.unreadable.get(each) or JobNotFoundError(each) for each in job_ids]
        raise StoreUnavailableError("the store has not answered")
