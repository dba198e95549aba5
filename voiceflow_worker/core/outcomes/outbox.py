"""The outbox of a queue: the events of its outcomes, and the position of each reader in them.

Events are kept as long as ended jobs (`CallPolicy.retention`, 30 days). Then the sweep deletes them, read or not. The
sweep also records the time up to which events were deleted, so that a reader that comes too late reports the gap.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from voiceflow_worker.core.ports import Event, EventKind, Jobs, Store
from voiceflow_worker.core.ports.record_set import RecordSet, json_records
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.records.call_outcome import CallOutcome, OutcomeKind
from voiceflow_worker.model.text.moment import in_words

FORGOTTEN = "forgotten-events"
CURSORS = "outcome-cursor"
LOOK_EVERY = timedelta(milliseconds=200)
LOOK_FOR_FORGOTTEN = timedelta(minutes=1)
SAVE_IDLE = timedelta(hours=1)
"""The interval at which a reader without new outcomes stores that it has missed nothing."""

_KINDS = {EventKind.ENDED: OutcomeKind.ENDED, EventKind.ATTEMPTED: OutcomeKind.ATTEMPTED}

_log = structlog.get_logger("voiceflow.outcomes")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The position of a reader. The reader goes on after `sequence`; no event from before `at` is left to read."""

    sequence: int
    at: datetime


class OutboxReader:
    """Reads the outcomes of one queue, from a position on.

    A reader with a name keeps its position in the store. Only the process that holds the lease of this name may read. A
    reader without a stored position begins with the first event at `since` or later. Methods raise StoreError.
    """

    def __init__(self, store: Store, queue: str, *, name: str | None, since: datetime) -> None:
        self._store = store
        self._queue = queue
        self._name = name
        self._since = since
        self._cursors = cursors(store)
        self._saved: Cursor | None = None
        self._looked_for_forgotten: float | None = None
        self.cursor = Cursor(0, since)
        """The position after the last event that was read."""
        self.is_behind = True
        """Whether the last page was full, so that there may be more to read."""
        self.gaps = 0
        """How many times events were deleted before this reader had read them."""

    async def open(self) -> None:
        """Go to the stored position; a new reader stores its first position."""
        saved = await self._load()
        if saved is None:
            saved = await _cursor_since(self._store, self._queue, self._since)
            await self._store_place(saved)
        self.cursor = self._saved = saved

    async def is_overtaken(self) -> bool:
        """Whether another process has changed the position that this reader stored; True before `open`."""
        return self._saved is None or await self._load() != self._saved

    async def page(self, *, limit: int = 100) -> list[Event]:
        """The next events with outcomes. An empty page is not the end: events without an outcome are left out."""
        await self._look_for_gap()
        before = self._store.clock.now()
        events = await self._store.jobs.events(self._queue, after=self.cursor.sequence, limit=limit)
        self.is_behind = len(events) == limit
        at = max(self.cursor.at, events[-1].at if self.is_behind else before)
        self.cursor = Cursor(events[-1].sequence if events else self.cursor.sequence, at)
        return [event for event in events if event.kind in _KINDS]

    async def save(self, cursor: Cursor) -> None:
        """Store a new position. If only its time has changed, it is stored at most once an hour."""
        saved = self._saved
        if saved is None or cursor.sequence != saved.sequence or cursor.at - saved.at >= SAVE_IDLE:
            await self._store_place(cursor)

    async def _load(self) -> Cursor | None:
        return None if self._name is None else (await self._cursors.get([self._name])).get(self._name)

    async def _store_place(self, cursor: Cursor) -> None:
        if self._name is not None:
            await self._cursors.put({self._name: cursor})
        self._saved = cursor

    async def _look_for_gap(self) -> None:
        now, last = self._store.clock.monotonic(), self._looked_for_forgotten
        if last is not None and now - last < LOOK_FOR_FORGOTTEN.total_seconds():
            return
        forgotten = (await forgotten_before(self._store).get([self._queue])).get(self._queue)
        self._looked_for_forgotten = now
        if forgotten is None or forgotten <= self.cursor.at:
            return
        self.cursor = replace(self.cursor, at=forgotten)
        self.gaps += 1
        _log.error(
            "outcomes were deleted before they were read; look at the calls themselves instead",
            reader=self._name or "a stream",
            queue=self._queue,
            before=in_words(forgotten),
        )


def cursors(store: Store) -> RecordSet[Cursor]:
    """The records of readers' positions, by the readers' names. They are kept forever."""
    return json_records(store, CURSORS, Cursor, unreadable=_refused_cursor)


def forgotten_before(store: Store) -> RecordSet[datetime]:
    """The records of the times before which events were deleted, by queue."""
    return RecordSet(store, FORGOTTEN, write=datetime.isoformat, read=lambda _, text: datetime.fromisoformat(text))


def outcome_of(event: Event, job: Job) -> CallOutcome:
    """The outcome of `job` that an event reports."""
    return CallOutcome(
        job=job, kind=_KINDS[event.kind], state=event.state, post=event.post, at=event.at, sequence=event.sequence
    )


async def last_sequence(jobs: Jobs, queue: str) -> int:
    """The sequence of the newest event of a queue; 0 if there is none."""

    async def is_last(sequence: int) -> bool:
        return not await jobs.events(queue, after=sequence, limit=1)

    return await _least(is_last)


async def _cursor_since(store: Store, queue: str, since: datetime) -> Cursor:
    """The cursor just before the first event at this time or later."""

    async def is_in_front(sequence: int) -> bool:
        found = await store.jobs.events(queue, after=sequence, limit=1)
        return not found or found[0].at >= since

    return Cursor(await _least(is_in_front), since)


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


def _refused_cursor(name: str, error: Exception) -> Cursor:
    raise StoreVersionError(
        f"the position of reader {name} cannot be read by this version of voiceflow-worker, because a newer version "
        "wrote it. Upgrade this installation; nothing was delivered."
    ) from error
