"""The store in memory, which is also the readable reference of the contract in `core/ports/store.py`.

It searches all jobs where other stores have indexes. A backend that differs from this one is wrong, or the
contract has a gap.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from heapq import nsmallest
from itertools import islice
from typing import Any
from uuid import uuid4

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.running import Wakeups
from voiceflow_worker.backends.writing import Writing
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.base.identity import queue_of
from voiceflow_worker.core.ports.controls import GATES, HOLDS, LIMITS, gate_member, hold_group, is_closed, limits_from
from voiceflow_worker.core.ports.reads import (
    AnyOf,
    ById,
    ByKey,
    Counted,
    Due,
    Expired,
    Listing,
    OfNumber,
    Read,
    Searched,
    Waiting,
)
from voiceflow_worker.core.ports.store import (
    BulkWrite,
    Change,
    Clock,
    Delete,
    Event,
    History,
    Insert,
    Key,
    Mode,
    Owner,
    Page,
    Put,
    Record,
    Replace,
    Wanted,
    Write,
    WriteResult,
    checked_bulk,
    tally_change,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gcra import Pace
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import Totals

_NEVER = datetime.max.replace(tzinfo=UTC)


class Memory(Writing[datetime]):
    """The contents of a store, and the rules of `write`. No method awaits, so each is atomic."""

    def __init__(self) -> None:
        self.id: str = uuid4().hex
        self.server: str = uuid4().hex
        self.history: History | None = None
        self.jobs: dict[str, Job] = {}
        self.keys: dict[str, str] = {}
        self.tombstones: dict[str, tuple[Job, datetime]] = {}
        self.recorded: dict[str, dict[str, tuple[Record, ...]]] = {}
        self.events: dict[int, Event] = {}
        self.sequence: int = 0
        self.live: defaultdict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
        self.changes: defaultdict[str, int] = defaultdict(lambda: 1)
        self.paces: dict[str, Pace] = {}
        self.wakeups: Wakeups = Wakeups()
        """The time by the clock of the store that writes."""

    # --- write ---

    def write(self, bulk: BulkWrite, now: datetime) -> Sequence[WriteResult]:
        bulk = checked_bulk(bulk)
        if (answers := self.refused(bulk, now)) is not None:
            return answers
        return [self.answer(write, now) for write in bulk.writes]

    def store(self, write: Write, at: datetime) -> None:
        for change in write.changes:
            self._change(change)
        for put in write.puts:
            self._put(put, at)
        for drop in write.drops:
            for held in self._held(drop.namespace, drop.group):
                if held.member == drop.member and drop.value in {None, held.value}:
                    self._forget(drop.namespace, held)
        for event in write.events:
            self.sequence += 1
            self.events[self.sequence] = replace(event, sequence=self.sequence)
        if write.wakes is not None:
            self.changes[write.wakes] += 1
            self.wakeups.wake(write.wakes)

    def pace(self, queue: str) -> Pace:
        return self.paces.get(queue, Pace())

    def set_pace(self, queue: str, pace: Pace) -> None:
        self.paces[queue] = pace

    def revision(self, job_id: str) -> str | None:
        return self.jobs[job_id].revision if job_id in self.jobs else None

    def _change(self, change: Change) -> None:
        match change:
            case Insert(job, tally) | Replace(_, job, tally):
                self.jobs[job.id] = job
                if job.unique_key is not None:
                    self.keys[job.unique_key] = job.id
                self._count(job, tally)
            case Delete(job, keep_key_until, tally):
                held = self.jobs.pop(job.id, None)
                if held is None:
                    return
                self._count(held, tally)
                if held.unique_key is not None:
                    del self.keys[held.unique_key]
                    if keep_key_until is not None:
                        self.tombstones[held.unique_key] = _tombstone(held), keep_key_until

    def _count(self, job: Job, tally: Mapping[str, int]) -> None:
        for key in {(job.queue, None), (job.queue, job.batch_id)}:
            for name, amount in tally.items():
                self.live[key][name] += amount

    def _put(self, put: Put, now: datetime) -> None:
        current = self.record(put.namespace, put.group, now, put.member)
        ends_at = put.ends_at
        if current is not None:
            lasts = current.ends_at or _NEVER
            if put.mode is Mode.KEEP or (put.mode is Mode.LONGER and lasts >= (ends_at or _NEVER)):
                return
            if put.mode is Mode.EXTEND and lasts > (ends_at or _NEVER):
                ends_at = current.ends_at
        others = [each for each in self._held(put.namespace, put.group) if each.member != put.member]
        record = Record(put.group, put.value, ends_at, put.member)
        group = tuple(sorted([*others, record], key=lambda each: each.member))
        self.recorded.setdefault(put.namespace, {})[put.group] = group

    def _held(self, namespace: str, group: str) -> tuple[Record, ...]:
        """Return the records of a group that were not dropped, in the order of their members."""
        return self.recorded.get(namespace, {}).get(group, ())

    def _forget(self, namespace: str, record: Record) -> None:
        left = tuple(each for each in self._held(namespace, record.group) if each is not record)
        self.recorded[namespace][record.group] = left
        if not left:
            del self.recorded[namespace][record.group]

    # --- reading ---

    def group(self, namespace: str, group: str, at: datetime) -> list[Record]:
        return [each for each in self._held(namespace, group) if each.ends_at is None or at < each.ends_at]

    def record(self, namespace: str, group: str, at: datetime, member: str = "") -> Record | None:
        return next((each for each in self.group(namespace, group, at) if each.member == member), None)

    def records(self, wanted: Wanted, now: datetime) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for namespace, each in wanted.items():
            if isinstance(each, Page):
                groups = sorted(self.recorded.get(namespace, {})) if each.group is None else [each.group]
                records = [record for group in groups for record in self.group(namespace, group, now)]
                page = [one for one in records if each.after is None or (one.group, one.member) > each.after]
                found[namespace] = page[: max(each.limit, 0)]
            else:
                found[namespace] = [record for key in each for record in self._of_key(namespace, key, now)]
        return found

    def _of_key(self, namespace: str, key: str | Key, now: datetime) -> list[Record]:
        if isinstance(key, str):
            return self.group(namespace, key, now)
        return [each for each in self.group(namespace, key[0], now) if each.member == key[1]]

    def owner(self, key: str, at: datetime) -> Owner | None:
        job = self.job_of_key(key, at)
        return None if job is None else Owner(job.id, job.body_digest, job.state)

    def job_of_key(self, key: str, now: datetime) -> Job | None:
        if key in self.keys:
            return self.jobs[self.keys[key]]
        buried, until = self.tombstones.get(key, (None, now))
        return buried if now < until else None

    def read(self, read: Read, now: datetime) -> list[Job]:
        match read:
            case ById(ids):
                return [self.jobs[job_id] for job_id in dict.fromkeys(ids) if job_id in self.jobs]
            case ByKey(keys):
                owners = (self.job_of_key(key, now) for key in dict.fromkeys(keys))
                return [job for job in owners if job is not None]
            case Due() | Expired() | Waiting() | OfNumber() | Listing():
                return self._search(read)

    def _search(self, read: Searched) -> list[Job]:
        found = [job for job in self.jobs.values() if read.has(job)]
        match read:
            case Due() | Waiting():
                found.sort(key=lambda job: (job.due_at, job.id))
            case OfNumber() | Listing():
                found.sort(key=lambda job: job.id, reverse=read.newest)
            case Expired():
                pass
        return found if read.limit is None else found[: max(read.limit, 0)]

    def count(self, read: Counted | AnyOf) -> int:
        if isinstance(read, AnyOf):
            return sum(any(map(each.has, self.jobs.values())) for each in read.reads)
        return sum(map(read.has, self.jobs.values()))

    def totals(self, queue: str, batch: str | None) -> Totals:
        key = (queue, batch)
        return Totals(live=_present(self.live.get(key, {})))

    # --- work ---

    def lease(
        self, queue: str, *, worker_id: str, limit: int, until: datetime, now: datetime, batch: str | None
    ) -> list[Job]:
        if is_closed(self.record(GATES, queue, now)):
            return []
        due = (
            job
            for job in self.jobs.values()
            if (job.queue, job.state) == (queue, JobState.QUEUED)
            and job.due_at <= now
            and not job.is_expired(at=now)
            and batch in {None, job.batch_id}
            and not (job.batch_id and is_closed(self.record(GATES, queue, now, gate_member(job.batch_id))))
            and not (job.batch_id and self.group(HOLDS, hold_group(queue, job.batch_id), now))
        )
        most = min(max(limit, 0), self._room(queue, now))
        chosen = nsmallest(most, due, key=lambda job: (-job.urgency, job.due_at, job.id))
        token = uuid4().hex
        leased = [
            replace(lifecycle.lease(job, worker_id=worker_id, until=until), revision=f"{token}.{index}")
            for index, job in enumerate(chosen)
        ]
        for old, job in zip(chosen, leased, strict=True):
            self._change(Replace(old.revision, job, tally_change(old, job)))
        return leased

    def _room(self, queue: str, now: datetime) -> int:
        """Return how many more calls may be open."""
        limits = limits_from(self.record(LIMITS, queue, now))
        if limits.max_active is None:
            return len(self.jobs)
        active = sum(
            job.queue == queue
            and (job.state is JobState.LEASED or (job.active_until is not None and job.active_until > now))
            for job in self.jobs.values()
        )
        return max(limits.max_active - active, 0)

    def prune(self, queue: str, now: datetime, events_before: datetime, limit: int) -> int:
        over: list[Callable[[], object]] = [
            partial(self._forget, namespace, each)
            for namespace, groups in self.recorded.items()
            for group in groups.values()
            for each in group
            if each.ends_at is not None and each.ends_at <= now
        ]
        over += [partial(self.tombstones.pop, key) for key, (_, until) in self.tombstones.items() if until <= now]
        over += [
            partial(self.events.pop, sequence)
            for sequence, event in self.events.items()
            if queue_of(event.job_id) == queue and event.at < events_before
        ]
        del over[max(limit, 0) :]
        for forget in over:
            forget()
        return len(over)


class MemoryStore:
    """A store in memory. It need not be opened or closed.

    Use it from one event loop. Its jobs are lost when the process ends, so use another store for calls that matter.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.url = "memory://"
        self.clock: Clock = SystemClock() if clock is None else clock
        self.memory: Memory = Memory()

    @property
    def id(self) -> str:
        return self.memory.id

    @property
    def server(self) -> str:
        return self.memory.server

    @property
    def history(self) -> History | None:
        return self.memory.history

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        await checkpoint()
        return self.memory.write(bulk, now)

    async def lease(
        self, queue: str, *, worker_id: str, limit: int, until: datetime, now: datetime, batch: str | None = None
    ) -> Sequence[Job]:
        await checkpoint()
        return self.memory.lease(queue, worker_id=worker_id, limit=limit, until=until, now=now, batch=batch)

    async def jobs(self, read: Read, *, now: datetime) -> Sequence[Job]:
        await checkpoint()
        return self.memory.read(read, now)

    async def totals(self, queue: str, *, batches: Sequence[str | None]) -> Sequence[Totals]:
        await checkpoint()
        return [self.memory.totals(queue, batch) for batch in batches]

    async def count(self, read: Counted | AnyOf) -> int:
        await checkpoint()
        return self.memory.count(read)

    async def records(self, wanted: Wanted, *, now: datetime) -> Mapping[str, Sequence[Record]]:
        await checkpoint()
        return self.memory.records(wanted, now)

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        await checkpoint()
        found = (
            each for each in self.memory.events.values() if queue_of(each.job_id) == queue and each.sequence > after
        )
        return list(islice(found, max(limit, 0)))

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        await checkpoint()
        while (count := self.memory.changes[queue]) == seen:
            left = (until - self.clock.now()).total_seconds()
            if left <= 0:
                break
            await self.memory.wakeups.next(queue).wait(self.clock, within=left)
        return count

    async def prune(self, queue: str, *, now: datetime, events_before: datetime, limit: int) -> int:
        await checkpoint()
        return self.memory.prune(queue, now, events_before, limit)


@asynccontextmanager
async def open_memory(url: str, *, clock: Clock | None = None) -> AsyncGenerator[MemoryStore]:  # noqa: ARG001 - an Opener is given its URL
    yield MemoryStore(clock=clock)


_OF_TOMBSTONE = (
    "id", "queue", "state", "due_at", "unique_key", "valid_until", "body_digest", "created_at", "not_before",
    "reason_kind",
)  # fmt: skip


def _tombstone(job: Job) -> Job:
    """Return what is kept of a deleted job with a unique key. It has nothing about the person who was called."""
    kept: dict[str, Any] = {name: getattr(job, name) for name in _OF_TOMBSTONE}
    edits = job.edits and replace(job.edits, made="")
    return Job(destination="", body="", source="", edits=edits, **kept)


def _present(counted: Mapping[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in counted.items() if amount}
