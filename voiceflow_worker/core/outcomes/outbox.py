"""The outbox of a queue as its readers see it: where to begin, what comes next, and what nobody can read any more.

Events are kept as long as ended jobs are (`CallPolicy.retention`, 30 days); then the sweep forgets them, read or not.
It leaves a record of that, so that a reader who comes too late is told instead of missing something silently.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Event, EventKind, Jobs, Records, Store
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.records.call_outcome import CallOutcome, OutcomeKind

FORGOTTEN = "forgotten-events"
CURSORS = "outcome-cursor"
LOOK_FOR_FORGOTTEN = timedelta(minutes=1)

_TELLS = {EventKind.ENDED: OutcomeKind.ENDED, EventKind.ATTEMPTED: OutcomeKind.ATTEMPTED}


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader is: behind the event `sequence`; of what happened before `at` it has missed nothing."""

    sequence: int
    at: datetime


class Cursors:
    """Cursors of readers, kept by their name for good."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, name: str) -> Cursor | None:
        """Where this reader is; None if it never began."""
        found = await self._store.records.get(CURSORS, [name], now=self._store.clock.now())
        if name not in found:
            return None
        try:
            told = json.loads(found[name])
            return Cursor(int(told["sequence"]), datetime.fromisoformat(told["at"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreVersionError(
                f"where reader {name} is cannot be read by this version of voiceflow-worker ({error}): a newer one "
                "wrote it. Upgrade this installation; nothing was told."
            ) from error

    async def save(self, name: str, cursor: Cursor) -> None:
        """Where this reader is from now on."""
        text = json.dumps({"sequence": cursor.sequence, "at": cursor.at.isoformat()})
        await self._store.records.put(CURSORS, {name: text}, expires_at=None, now=self._store.clock.now())


class OutboxReader:
    """Reads the outcomes of one queue from a cursor on."""

    def __init__(self, store: Store, queue: str, cursor: Cursor) -> None:
        self._store = store
        self._queue = queue
        self._looked_for_forgotten: float | None = None
        self.cursor = cursor
        """Behind what was read last."""

    async def page(self, *, limit: int = 100) -> Sequence[Event]:
        """The next events that tell outcomes; none may also mean that others were read. Raises StoreError."""
        before = self._store.clock.now()
        events = await self._store.jobs.events(self._queue, after=self.cursor.sequence, limit=limit)
        self.is_behind = len(events) == limit
        at = max(self.cursor.at, events[-1].at if self.is_behind else before)
        self.cursor = Cursor(events[-1].sequence if events else self.cursor.sequence, at)
        return [event for event in events if event.kind in _TELLS]

    is_behind = True
    """Whether there was more to read when it looked last."""

    async def missed_until(self) -> datetime | None:
        """If events were forgotten that this reader had not read: until when. Told once; looks once a minute."""
        now = self._store.clock.monotonic()
        last = self._looked_for_forgotten
        if last is not None and now - last < LOOK_FOR_FORGOTTEN.total_seconds():
            return None
        self._looked_for_forgotten = now
        forgotten = await forgotten_before(self._store, self._queue)
        if forgotten is None or forgotten <= self.cursor.at:
            return None
        self.cursor = replace(self.cursor, at=forgotten)
        return forgotten


def told_by(event: Event, job: Job) -> CallOutcome:
    """The outcome that an event tells of its job."""
    return CallOutcome(
        job=job, kind=_TELLS[event.kind], state=event.state, post=event.post, at=event.at, sequence=event.sequence
    )


async def forgotten_before(store: Store, queue: str) -> datetime | None:
    """The time before which events of the queue were forgotten; None if none ever were."""
    found = await store.records.get(FORGOTTEN, [queue], now=store.clock.now())
    return datetime.fromisoformat(found[queue]) if queue in found else None


async def remember_forgotten(records: Records, queue: str, *, before: datetime, now: datetime) -> None:
    """Tell readers that events from before this time are gone."""
    await records.put(FORGOTTEN, {queue: before.isoformat()}, expires_at=None, now=now)


async def cursor_since(store: Store, queue: str, since: datetime) -> Cursor:
    """The cursor in front of the first event that happened at this time or later."""

    async def is_in_front(sequence: int) -> bool:
        found = await store.jobs.events(queue, after=sequence, limit=1)
        return not found or found[0].at >= since

    return Cursor(await _least(is_in_front), since)


async def last_sequence(jobs: Jobs, queue: str) -> int:
    """The sequence of the newest event of a queue; 0 if there is none."""

    async def is_last(sequence: int) -> bool:
        return not await jobs.events(queue, after=sequence, limit=1)

    return await _least(is_last)


async def _least(holds: Callable[[int], Awaitable[bool]]) -> int:
    """The smallest number from 0 on for which `holds`, which then holds for all larger ones: some 40 looks at most.

    Sequences only grow, and events are stored in about the order of their times, so a place among millions of events is
    found without reading them.
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
