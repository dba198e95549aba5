"""Outcomes as events: their reader, the stream of a queue, and the wait for one call's outcome.

Events are kept as long as ended jobs (`CallPolicy.retention`, 30 days). Then the sweep deletes them, read or not. The
sweep also records which events were deleted, so that a reader that comes too late reports the gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Self

import anyio
import structlog

from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.reading import get_jobs, read_each
from voiceflow_worker.core.base.record_set import RecordSet, json_records
from voiceflow_worker.core.base.round_trips import Batcher, Retry
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.errors import (
    JobNotFoundError,
    OutcomeTimeoutError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.model.jobs.call_json import CallOutcome, OutcomeKind
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.wording import in_words

FORGOTTEN = "forgotten-events"
POSITIONS = "outcome-position"
POLL_EVERY = timedelta(milliseconds=200)
LOOK_FOR_FORGOTTEN = timedelta(minutes=1)

_KINDS = {EventKind.ENDED: OutcomeKind.ENDED, EventKind.ATTEMPTED: OutcomeKind.ATTEMPTED}

_log = structlog.get_logger("voiceflow.outcomes")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The deleted events of a queue: those up to `sequence`, which happened before the time `before`."""

    sequence: int
    before: datetime

    def or_later(self, known: Forgotten | None) -> Forgotten:
        """This, or what is `known`, if that is later."""
        return self if known is None or known.sequence < self.sequence else known


class OutboxReader:
    """Reads the outcomes of one queue, from a position on: the sequence of the last event that was read.

    A reader with a name keeps its position in the store. Only the process that holds the lease of this name may read. A
    reader without a stored position begins with the first event at `since` or later. Methods raise StoreError.
    """

    def __init__(self, store: Store, queue: str, *, name: str | None, since: datetime) -> None:
        self._store = store
        self._queue = queue
        self._name = name
        self._since = since
        self._positions = positions(store)
        self._saved: int | None = None
        self._looked_for_forgotten: float | None = None
        self.position: int = 0
        self.is_behind: bool = True
        """Whether the last page was full, so that there may be more to read."""
        self.gaps: int = 0
        """How many times events were deleted before this reader had read them."""

    async def open(self) -> None:
        """Go to the stored position; a new reader stores its first position."""
        saved = await self._load()
        if saved is None:
            saved = await position_at(self._store, self._queue, self._since)
            forgotten = await self._forgotten()
            if forgotten is not None and forgotten.before <= self._since:
                saved = max(saved, forgotten.sequence)
            await self.save(saved)
        self.position = self._saved = saved

    async def is_overtaken(self) -> bool:
        """Whether another process has changed the position that this reader stored; True before `open`."""
        return self._saved is None or await self._load() != self._saved

    async def page(self, *, limit: int = 100) -> list[Event]:
        """The next events with outcomes. An empty page is not the end: events without an outcome are left out."""
        await self._look_for_gap()
        events = await self._store.events(self._queue, after=self.position, limit=limit)
        self.is_behind = len(events) == limit
        if events:
            self.position = events[-1].sequence
        return [event for event in events if event.kind in _KINDS]

    async def save(self, position: int) -> None:
        """Store a new position."""
        if self._name is not None and position != self._saved:
            await self._positions.put({self._name: position})
        self._saved = position

    async def _load(self) -> int | None:
        return None if self._name is None else (await self._positions.get([self._name])).get(self._name)

    async def _forgotten(self) -> Forgotten | None:
        return (await forgotten_events(self._store).get([self._queue])).get(self._queue)

    async def _look_for_gap(self) -> None:
        now, last = self._store.clock.monotonic(), self._looked_for_forgotten
        if last is not None and now - last < LOOK_FOR_FORGOTTEN.total_seconds():
            return
        forgotten = await self._forgotten()
        self._looked_for_forgotten = now
        if forgotten is None or forgotten.sequence <= self.position:
            return
        self.position = forgotten.sequence
        self.gaps += 1
        _log.error(
            "outcomes were deleted before they were read; read the calls themselves instead",
            reader=self._name or "a stream",
            queue=self._queue,
            before=in_words(forgotten.before),
        )


def positions(store: Store) -> RecordSet[int]:
    """The records of readers' positions, by the readers' names. They are kept forever."""
    return RecordSet(store, POSITIONS, write=str, read=lambda _, text: int(text), unreadable=_refused_position)


def forgotten_events(store: Store) -> RecordSet[Forgotten]:
    """The records of deleted events, by queue."""
    return json_records(store, FORGOTTEN, Forgotten)


def outcome_of(event: Event, job: Job) -> CallOutcome:
    """The outcome of `job` that an event reports."""
    return CallOutcome(
        job=job, kind=_KINDS[event.kind], state=event.state, post=event.post, at=event.at, sequence=event.sequence
    )


async def last_sequence(store: Store, queue: str) -> int:
    """The sequence of the newest event of a queue; 0 if there is none."""

    async def is_last(sequence: int) -> bool:
        return not await store.events(queue, after=sequence, limit=1)

    return await _least(is_last)


async def position_at(store: Store, queue: str, since: datetime) -> int:
    """The position just before the first event at this time or later; 0 if no event is earlier."""

    async def is_in_front(sequence: int) -> bool:
        found = await store.events(queue, after=sequence, limit=1)
        return not found or found[0].at >= since

    return await _least(is_in_front)


async def _least(holds: Callable[[int], Awaitable[bool]]) -> int:
    """The smallest number, 0 or more, for which `holds` is true. `holds` is called about 40 times at most.

    If `holds` is true for a number, it must be true for all larger ones. The sequences of events grow roughly with
    their times, so this search finds a position among millions of events without reading them all.
    """
    if await holds(0):
        return 0
    low, high = 0, 1
    while not await holds(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if await holds(middle):
            high = middle
        else:
            low = middle
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
    half a minute later.
    """

    def __init__(self, store: Store, queue: str, *, consumer: str | None, since: datetime, attempts: bool) -> None:
        self._store = store
        self._attempts = attempts
        name = None if consumer is None else f"stream/{consumer}/{queue}"
        self._lease = None if name is None else LeaderLease(store, name)
        self._reader = OutboxReader(store, queue, name=name, since=since)
        self._retry = Retry(store.clock, what=f"the outcomes of {queue}")
        self._page: deque[Event] = deque()
        self._given: int | None = None
        self._is_current = False
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CallOutcome:
        while not self._is_closed:
            await self._retry(self._hold_position)
            if self._given is not None:
                await self._retry(partial(self._reader.save, self._given))
                self._given = None
                continue
            if not self._page:
                await self._retry(self._read)
            if not self._page:
                await self._store.clock.sleep(POLL_EVERY.total_seconds())
                continue
            outcome = await self._retry(self._next)
            if outcome is not None:
                return outcome
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
        if self._lease is not None:
            await self._lease.release()

    async def _hold_position(self) -> None:
        """Wait for the lease of the consumer's name. If another process has read further, go to its position."""
        lease = self._lease
        while lease is not None and not lease.is_fresh:
            self._is_current = self._is_current and not lease.is_over
            if not await lease.take():
                await self._store.clock.sleep(STAND_BY.total_seconds())
        if self._is_current:
            return
        if await self._reader.is_overtaken():
            self._given = None
            self._page.clear()
            await self._reader.open()
        self._is_current = True

    async def _read(self) -> None:
        events = await self._reader.page()
        self._page.extend(event for event in events if self._attempts or event.kind is not EventKind.ATTEMPTED)
        if not self._page:
            await self._reader.save(self._reader.position)

    async def _next(self) -> CallOutcome | None:
        """The next outcome of the page; None if its call is no longer in the store.

        Raises StoreVersionError for a call that a newer version wrote. The position then stays before the outcome, so
        that no outcome is lost.
        """
        event = self._page[0]
        job = (await get_jobs(self._store, [event.job_id])).get(event.job_id)
        self._page.popleft()
        self._given = event.sequence
        if job is None:
            _log.warning("an outcome is left out: its call has been deleted", job=event.job_id)
            return None
        return outcome_of(event, job)


WAIT_LOOKS_EVERY = 0.2
LOOKING_SHARE = 0.2
"""The largest share of the time that reads may take. A long read for many waiters is followed by a long pause."""
LOOK_LIMIT = 2.0
"""Seconds after which a read without an answer is given up, as if the store were unavailable. A time-out can be late by
this much."""


class OutcomeWatch:
    """Waits for calls of one store to end. All waiters poll at the same moments, and share the round trips."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reads: Batcher[str, Job] = Batcher(self._read)

    async def wait(self, job_id: str, *, timeout: timedelta | None = None) -> Job:  # noqa: ASYNC109 - a promise of its own error
        """Wait until the job has ended, and return it. Raises `OutcomeTimeoutError` and `JobNotFoundError`."""
        clock = self._store.clock
        began, state = clock.monotonic(), None
        while True:
            asked = clock.monotonic()
            try:
                job = await self._reads.submit(job_id)
            except StoreUnavailableError as error:
                _log.debug("the store is unavailable; still waiting for an outcome", job=job_id, error=str(error))
            else:
                if job.state.is_final:
                    return job
                state = job.state.value
            now = clock.monotonic()
            pause = max(WAIT_LOOKS_EVERY, (now - asked) * (1 / LOOKING_SHARE - 1))
            pause -= now % pause
            if timeout is not None:
                left = began + timeout.total_seconds() - now
                if left <= 0:
                    raise OutcomeTimeoutError(job_id, state=state, waited=timeout)
                pause = min(pause, left)
            await clock.sleep(max(pause, 0.001))

    async def _read(self, job_ids: Sequence[str]) -> list[Job | BaseException]:
        with anyio.move_on_after(LOOK_LIMIT):
            found = await read_each(self._store, list(dict.fromkeys(job_ids)))
            return [found.jobs.get(each) or found.unreadable.get(each) or JobNotFoundError(each) for each in job_ids]
        raise StoreUnavailableError("the store has not answered")
