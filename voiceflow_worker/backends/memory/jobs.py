"""Jobs in memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.admission import admission, remembered, result_of, tombstone_of
from voiceflow_worker.backends.matching import matches, require_answerable, require_well_formed
from voiceflow_worker.backends.memory.control import MemoryControl
from voiceflow_worker.backends.memory.lanes import Lanes
from voiceflow_worker.backends.memory.state import SharedState
from voiceflow_worker.core.ports import Clock, Enqueued, Event, Jobs, KeyOwner, Move, Order, Query
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.gate import GateScope
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import STATE, Totals, tally_of


class MemoryJobs(Jobs):
    """The port `Jobs` in memory. No method awaits while it changes jobs, so each change is atomic."""

    def __init__(self, control: MemoryControl, state: SharedState, clock: Clock) -> None:
        self._control = control
        self._changes = state.changes
        self._tombstones = state.tombstones
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._lanes: defaultdict[str, Lanes] = defaultdict(lambda: Lanes(self._jobs))
        self._batches = state.batches
        self._totals = MemoryTotals()
        # The jobs of each queue that may count as open calls.
        self._open: defaultdict[str, set[str]] = defaultdict(set)
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        self._sequence = 0

    async def enqueue(self, jobs: Sequence[Job], *, now: datetime) -> Sequence[Enqueued]:
        await checkpoint()
        answers, fresh = result_of(
            admission(jobs, held=self._jobs.get, owner=lambda queue, key: self._owner((queue, key), now=now))
        )
        for index in fresh:
            self._put(jobs[index])
        for queue in {jobs[index].queue for index in fresh}:
            self._changes.note(queue)
        return answers

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
        await checkpoint()
        if self._control.is_closed(queue, GateScope.QUEUE, queue, at=now):
            return []
        token = uuid4().hex
        taken = self._lanes[queue].take(
            min(limit, self._room(queue, at=now)),
            at=now,
            is_closed=partial(self._control.is_closed, queue, GateScope.BATCH, at=now),
            batch_id=batch_id,
        )
        leased = [
            replace(lifecycle.lease(job, worker_id=worker_id, until=now + lease_for), revision=f"{token}.{place}")
            for place, job in enumerate(taken)
        ]
        for job in leased:
            self._put(job)
        return leased

    async def commit(self, moves: Sequence[Move]) -> Sequence[bool]:
        require_well_formed(moves)
        await checkpoint()
        return [self._move(move) for move in moves]

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        await checkpoint()
        return {job_id: self._jobs[job_id] for job_id in job_ids if job_id in self._jobs}

    async def find(self, query: Query) -> Sequence[Job]:
        require_answerable(query)
        await checkpoint()
        found = [job for job in self._jobs.values() if matches(query, job)]
        match query.order:
            case Order.CREATED | Order.ANY:
                found.sort(key=lambda job: job.id)
            case Order.NEWEST:
                found.sort(key=lambda job: job.id, reverse=True)
            case Order.DUE:
                found.sort(key=lambda job: (job.due_at, job.id))
        return found if query.limit is None else found[: max(query.limit, 0)]

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        await checkpoint()
        if due_before is None:
            return self._totals.read(queue, batch_id).states
        query = Query(queue=queue, batch_id=batch_id, due_before=due_before)
        counted = Counter(job.state for job in self._jobs.values() if matches(query, job))
        return {state: counted[state] for state in JobState}

    async def totals(self, queue: str, *, batch_id: str | None = None) -> Totals:
        await checkpoint()
        return self._totals.read(queue, batch_id)

    async def owners(self, queue: str, unique_keys: Sequence[str], *, now: datetime) -> Mapping[str, KeyOwner]:
        await checkpoint()
        found = {key: self._owner((queue, key), now=now) for key in unique_keys}
        return {key: KeyOwner(job.id, job.body_digest, job.state) for key, job in found.items() if job is not None}

    async def delete(self, jobs: Sequence[Job], *, keep_keys_until: datetime) -> Sequence[bool]:
        await checkpoint()
        return [self._delete(job, keep_keys_until=keep_keys_until) for job in jobs]

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        await checkpoint()
        return [event for event in self._events[queue] if event.sequence > after][: max(limit, 0)]

    async def forget_events(self, queue: str, *, before: datetime) -> int:
        await checkpoint()
        events = self._events[queue]
        kept = [event for event in events if event.at >= before]
        self._events[queue] = kept
        return len(events) - len(kept)

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
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
            for job in map(self._jobs.__getitem__, self._open[queue])
        )
        return max(most - active, 0)

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
            self._take_out(held)
        self._jobs[job.id] = job
        self._batches.count(job, 1)
        self._totals.count(job, 1)
        if job.unique_key is not None:
            self._keys[job.queue, job.unique_key] = job.id
        if job.state is JobState.LEASED or job.active_until is not None:
            self._open[job.queue].add(job.id)
        if job.state is JobState.QUEUED:
            self._lanes[job.queue].add(job)

    def _take_out(self, job: Job) -> None:
        del self._jobs[job.id]
        self._batches.count(job, -1)
        self._totals.count(job, -1)
        self._open[job.queue].discard(job.id)
        self._lanes[job.queue].leave(job)

    def _owner(self, place: tuple[str, str], *, now: datetime) -> Job | None:
        job_id = self._keys.get(place)
        if job_id is not None:
            return self._jobs[job_id]
        job, until = self._tombstones.get(place, (None, now))
        return job if now < until else None

    def _delete(self, job: Job, *, keep_keys_until: datetime) -> bool:
        held = self._jobs.get(job.id)
        if held is None or held.revision != job.revision:
            return False
        self._take_out(held)
        self._totals.prune(held, is_last=not self._batches.jobs[held.queue, held.batch_id or ""])
        if held.unique_key is not None:
            del self._keys[held.queue, held.unique_key]
            self._tombstones[held.queue, held.unique_key] = (remembered(tombstone_of(held)), keep_keys_until)
        return True


class MemoryTotals:
    """The totals of all queues and batches, updated with every job that is added or removed."""

    def __init__(self) -> None:
        self._live: defaultdict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
        self._pruned: defaultdict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)

    def read(self, queue: str, batch_id: str | None) -> Totals:
        """The totals of a queue or of a batch."""
        place = (queue, batch_id)
        return Totals(live=_present(self._live.get(place, {})), pruned=_present(self._pruned.get(place, {})))

    def count(self, job: Job, sign: int) -> None:
        """Count a job that was added (1) or removed (-1)."""
        for place in {(job.queue, None), (job.queue, job.batch_id)}:
            _add(self._live[place], job, sign)

    def prune(self, job: Job, *, is_last: bool) -> None:
        """Count a deleted job in the totals of its batch. After the last job (`is_last`), drop these totals."""
        if job.batch_id is None:
            return
        if is_last:
            self._live.pop((job.queue, job.batch_id), None)
            self._pruned.pop((job.queue, job.batch_id), None)
        else:
            _add(self._pruned[job.queue, job.batch_id], job, 1)


def _add(counter: Counter[str], job: Job, sign: int) -> None:
    counter[STATE + job.state] += sign
    for field, amount in tally_of(job).items():
        counter[field] += sign * amount


def _present(counted: Mapping[str, int]) -> dict[str, int]:
    return {field: amount for field, amount in counted.items() if amount}
