"""Jobs in memory."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.admission import admission, remembered, result_of
from voiceflow_worker.backends.matching import matches, require_answerable, require_well_formed
from voiceflow_worker.backends.memory.control import MemoryControl
from voiceflow_worker.backends.memory.state import Changes, Tombstone, Tombstones
from voiceflow_worker.core.ports import Clock, Enqueued, Event, KeyOwner, Move, Order, Query
from voiceflow_worker.model import lifecycle
from voiceflow_worker.model.gate import GateScope
from voiceflow_worker.model.job import Job, JobState


class MemoryJobs:
    """The port `Jobs` in memory. Every method does its work between two awaits, so each is one step for all others."""

    def __init__(self, control: MemoryControl, changes: Changes, tombstones: Tombstones, clock: Clock) -> None:
        self._control = control
        self._changes = changes
        self._tombstones = tombstones
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], str] = {}
        # Per queue, in the order of leasing: (-priority, due_at, id).
        self._queued: defaultdict[str, list[tuple[int, datetime, str]]] = defaultdict(list)
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        self._sequence = 0

    async def enqueue(self, jobs: Sequence[Job], *, now: datetime) -> Sequence[Enqueued]:
        """Store new jobs, all or none; raises `KeyConflictError` when a key's owner has another body."""
        await checkpoint()
        judged = result_of(
            admission(jobs, held=self._jobs.get, owner=lambda queue, key: self._owner((queue, key), now=now))
        )
        for index in judged.fresh:
            self._put(jobs[index])
        for queue in {jobs[index].queue for index in judged.fresh}:
            self._changes.note(queue)
        return judged.answers

    async def lease(
        self,
        queue: str,
        *,
        worker_id: str,
        limit: int,
        lease_for: timedelta,
        now: datetime,
        batch_id: str | None = None,
    ) -> Sequence[Job]:
        """Take at most `limit` due queued jobs: highest priority first, then earliest due, then id."""
        await checkpoint()
        if self._control.is_closed(queue, GateScope.QUEUE, queue, at=now):
            return []
        room = min(limit, self._room(queue, at=now))
        token = uuid4().hex
        leased: list[Job] = []
        for job in self._ready(queue, at=now, batch_id=batch_id):
            if len(leased) >= room:
                break
            leased.append(
                replace(
                    lifecycle.lease(job, worker_id=worker_id, until=now + lease_for),
                    revision=f"{token}.{len(leased)}",
                )
            )
        for job in leased:
            self._put(job)
        return leased

    async def commit(self, moves: Sequence[Move]) -> Sequence[bool]:
        """Make moves of one queue, each fenced by the revision it was made from."""
        require_well_formed(moves)
        await checkpoint()
        return [self._move(move) for move in moves]

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """The jobs with these ids; unknown ones are absent."""
        await checkpoint()
        return {job_id: self._jobs[job_id] for job_id in job_ids if job_id in self._jobs}

    async def find(self, query: Query) -> Sequence[Job]:
        """The jobs of one queue that match all of `query`."""
        require_answerable(query)
        await checkpoint()
        found = [job for job in self._jobs.values() if matches(query, job)]
        match query.order:
            case Order.CREATED:
                found.sort(key=lambda job: job.id)
            case Order.DUE:
                found.sort(key=lambda job: (job.due_at, job.id))
        return found if query.limit is None else found[: max(query.limit, 0)]

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        """How many jobs are in each state; every state is present."""
        await checkpoint()
        query = Query(queue=queue, batch_id=batch_id, due_before=due_before)
        counted = Counter(job.state for job in self._jobs.values() if matches(query, job))
        return {state: counted[state] for state in JobState}

    async def owners(self, queue: str, unique_keys: Sequence[str], *, now: datetime) -> Mapping[str, KeyOwner]:
        """Who owns these unique keys, tombstones included; free keys are absent."""
        await checkpoint()
        found = {key: self._owner((queue, key), now=now) for key in unique_keys}
        return {key: KeyOwner(job.id, job.body_digest, job.state) for key, job in found.items() if job is not None}

    async def delete(self, jobs: Sequence[Job], *, keep_keys_until: datetime) -> Sequence[bool]:
        """Delete jobs, each only while it still has the revision given; its unique key answers on until then."""
        await checkpoint()
        return [self._delete(job, keep_keys_until=keep_keys_until) for job in jobs]

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """The events of a queue behind `after`, oldest first."""
        await checkpoint()
        return [event for event in self._events[queue] if event.sequence > after][: max(limit, 0)]

    async def forget_events(self, queue: str, *, before: datetime) -> int:
        """Drop events from before this time; says how many."""
        await checkpoint()
        events = self._events[queue]
        kept = [event for event in events if event.at >= before]
        self._events[queue] = kept
        return len(events) - len(kept)

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Return when the queue's change count is no longer `seen`, or at `until`. Gives the count."""
        await checkpoint()
        while (count := self._changes.count(queue)) == seen:
            left = (until - self._clock.now()).total_seconds()
            if left <= 0:
                break
            await self._changes.next(queue, self._clock, within=left)
        return count

    def _room(self, queue: str, *, at: datetime) -> int:
        most = self._control.max_active(queue)
        if most is None:
            return len(self._jobs)
        active = sum(
            job.state is JobState.LEASED or (job.active_until is not None and job.active_until > at)
            for job in self._jobs.values()
            if job.queue == queue
        )
        return max(most - active, 0)

    def _ready(self, queue: str, *, at: datetime, batch_id: str | None) -> Iterator[Job]:
        for _, due_at, job_id in self._queued[queue]:
            job = self._jobs[job_id]
            if due_at > at or job.is_expired(at=at) or (batch_id is not None and job.batch_id != batch_id):
                continue
            if job.batch_id is None or not self._control.is_closed(queue, GateScope.BATCH, job.batch_id, at=at):
                yield job

    def _move(self, move: Move) -> bool:
        held = self._jobs.get(move.old.id)
        if held is None:
            return False
        if held.revision != move.old.revision:
            return held.revision == move.new.revision
        self._put(move.new)
        for event in move.events:
            self._sequence += 1
            self._events[move.new.queue].append(replace(event, sequence=self._sequence))
        if move.new.state is JobState.QUEUED:
            self._changes.note(move.new.queue)
        return True

    def _put(self, job: Job) -> None:
        held = self._jobs.get(job.id)
        if held is not None:
            self._unline(held)
        self._jobs[job.id] = job
        if job.unique_key is not None:
            self._keys[job.queue, job.unique_key] = job.id
        if job.state is JobState.QUEUED:
            insort(self._queued[job.queue], (-job.priority, job.due_at, job.id))

    def _unline(self, job: Job) -> None:
        if job.state is JobState.QUEUED:
            line = self._queued[job.queue]
            del line[bisect_left(line, (-job.priority, job.due_at, job.id))]

    def _owner(self, place: tuple[str, str], *, now: datetime) -> Job | None:
        job_id = self._keys.get(place)
        if job_id is not None:
            return self._jobs[job_id]
        tombstone = self._tombstones.get(place)
        return tombstone.job if tombstone is not None and now < tombstone.until else None

    def _delete(self, job: Job, *, keep_keys_until: datetime) -> bool:
        held = self._jobs.get(job.id)
        if held is None or held.revision != job.revision:
            return False
        self._unline(held)
        del self._jobs[held.id]
        if held.unique_key is not None:
            del self._keys[held.queue, held.unique_key]
            memory = remembered(
                held.id,
                queue=held.queue,
                unique_key=held.unique_key,
                body_digest=held.body_digest,
                state=held.state,
                due_at=held.due_at,
                created_at=held.created_at,
                not_before=held.not_before,
                valid_until=held.valid_until,
            )
            self._tombstones[held.queue, held.unique_key] = Tombstone(memory, keep_keys_until)
        return True
