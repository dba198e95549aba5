"""The outbox of a queue: the events of its outcomes, and the place of each reader in them.

Events are kept as long as ended jobs (`CallPolicy.retention`, 30 days). Then the sweep deletes them, read or not. The
sweep also records which events were deleted, so that a reader that comes too late reports the gap.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.record_set import RecordSet, json_records
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.records.call_outcome import CallOutcome, OutcomeKind
from voiceflow_worker.model.text.moment import in_words

FORGOTTEN = "forgotten-events"
PLACES = "outcome-place"
LOOK_EVERY = timedelta(milliseconds=200)
LOOK_FOR_FORGOTTEN = timedelta(minutes=1)

_KINDS = {EventKind.ENDED: OutcomeKind.ENDED, EventKind.ATTEMPTED: OutcomeKind.ATTEMPTED}

_log = structlog.get_logger("voiceflow.outcomes")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The deleted events of a queue: those up to `sequence`, which happened before the time `before`."""

    sequence: int
    before: datetime


class OutboxReader:
    """Reads the outcomes of one queue, from a place on: the sequence of the last event that was read.

    A reader with a name keeps its place in the store. Only the process that holds the lease of this name may read. A
    reader without a stored place begins with the first event at `since` or later. Methods raise StoreError.
    """

    def __init__(self, store: Store, queue: str, *, name: str | None, since: datetime) -> None:
        self._store = store
        self._queue = queue
        self._name = name
        self._since = since
        self._places = places(store)
        self._saved: int | None = None
        self._looked_for_forgotten: float | None = None
        self.place: int = 0
        self.is_behind: bool = True
        """Whether the last page was full, so that there may be more to read."""
        self.gaps: int = 0
        """How many times events were deleted before this reader had read them."""

    async def open(self) -> None:
        """Go to the stored place; a new reader stores its first place."""
        saved = await self._load()
        if saved is None:
            saved = await place_at(self._store, self._queue, self._since)
            forgotten = await self._forgotten()
            if forgotten is not None and forgotten.before <= self._since:
                saved = max(saved, forgotten.sequence)
            await self.save(saved)
        self.place = self._saved = saved

    async def is_overtaken(self) -> bool:
        """Whether another process has changed the place that this reader stored; True before `open`."""
        return self._saved is None or await self._load() != self._saved

    async def page(self, *, limit: int = 100) -> list[Event]:
        """The next events with outcomes. An empty page is not the end: events without an outcome are left out."""
        await self._look_for_gap()
        events = await self._store.events(self._queue, after=self.place, limit=limit)
        self.is_behind = len(events) == limit
        if events:
            self.place = events[-1].sequence
        return [event for event in events if event.kind in _KINDS]

    async def save(self, place: int) -> None:
        """Store a new place."""
        if self._name is not None and place != self._saved:
            await self._places.put({self._name: place})
        self._saved = place

    async def _load(self) -> int | None:
        return None if self._name is None else (await self._places.get([self._name])).get(self._name)

    async def _forgotten(self) -> Forgotten | None:
        return (await forgotten_events(self._store).get([self._queue])).get(self._queue)

    async def _look_for_gap(self) -> None:
        now, last = self._store.clock.monotonic(), self._looked_for_forgotten
        if last is not None and now - last < LOOK_FOR_FORGOTTEN.total_seconds():
            return
        forgotten = await self._forgotten()
        self._looked_for_forgotten = now
        if forgotten is None or forgotten.sequence <= self.place:
            return
        self.place = forgotten.sequence
        self.gaps += 1
        _log.error(
            "outcomes were deleted before they were read; look at the calls themselves instead",
            reader=self._name or "a stream",
            queue=self._queue,
            before=in_words(forgotten.before),
        )


def places(store: Store) -> RecordSet[int]:
    """The records of readers' places, by the readers' names. They are kept forever."""
    return RecordSet(store, PLACES, write=str, read=lambda _, text: int(text), unreadable=_refused_place)


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


async def place_at(store: Store, queue: str, since: datetime) -> int:
    """The place just before the first event at this time or later; 0 if no event is earlier."""

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


def _refused_place(name: str, error: Exception) -> int:
    raise StoreVersionError(
        f"the place of reader {name} cannot be read by this version of voiceflow-worker, because a newer version "
        "wrote it. Upgrade this installation; nothing was delivered."
    ) from error
