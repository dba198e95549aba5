"""Jobs in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import anyio
import orjson
from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.admission import remembered
from voiceflow_worker.backends.instant import from_micros, to_micros
from voiceflow_worker.backends.matching import matches, require_answerable, require_well_formed
from voiceflow_worker.backends.record import readable
from voiceflow_worker.backends.sqlite import writes
from voiceflow_worker.backends.sqlite.file.connection import Connection
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit
from voiceflow_worker.backends.sqlite.leasing import lease
from voiceflow_worker.backends.sqlite.reading import Reader, job_of
from voiceflow_worker.backends.sqlite.records import drop_all
from voiceflow_worker.backends.sqlite.searches import search
from voiceflow_worker.backends.wakeups import Wakeups
from voiceflow_worker.core.ports import Clock, Enqueued, Event, EventKind, KeyOwner, Move, Order, Query
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.jobs.job import Job, JobState

T = TypeVar("T")
U = TypeVar("U")

_TAKEN_APART_AT_ONCE = 256
"""Jobs encoded before other tasks may run: 1 ms."""
_EVENTS_AT_ONCE = 256
_LOOK_EVERY = 0.025
"""Seconds between two checks for changes by other processes, 6 µs each. Changes by this process wake at once."""
_ANY_TIME = 2**63 - 1
_STATES = frozenset(JobState)


class SqliteJobs:
    """The port `Jobs` in a file."""

    def __init__(self, writer: GroupCommit, reader: Reader, wakeups: Wakeups, clock: Clock) -> None:
        self._writer = writer
        self._reader = reader
        self._wakeups = wakeups
        self._clock = clock
        self._sql = statements("jobs")

    async def enqueue(self, jobs: Sequence[Job], *, now: datetime) -> Sequence[Enqueued]:
        """Store new jobs, all or none; raises `KeyConflictError` when a key's owner has another body."""
        if not jobs:
            return []
        entries = await _taken_apart(writes.EncodedJob.of, jobs)
        return await self._writer.carry_out(
            lambda transaction: writes.enqueue(entries, now=now, transaction=transaction)
        )

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
        rows = await self._writer.carry_out(
            lambda transaction: lease(
                queue,
                worker_id=worker_id,
                limit=limit,
                lease_for=lease_for,
                now=now,
                batch_id=batch_id,
                transaction=transaction,
            )
        )
        return readable(rows, job_of)

    async def commit(self, moves: Sequence[Move]) -> Sequence[bool]:
        """Make moves of one queue in one durable step, each fenced by the revision it was made from."""
        require_well_formed(moves)
        if not moves:
            return []
        changes = await _taken_apart(writes.EncodedMove.of, moves)
        return await self._writer.carry_out(lambda transaction: writes.commit(changes, transaction=transaction))

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """The jobs with these ids; unknown ones are absent."""
        found = await self._reader.jobs(self._sql["job_by_id"], [(job_id,) for job_id in job_ids])
        return {job.id: job for job in found}

    async def find(self, query: Query) -> Sequence[Job]:
        """The jobs of one queue that match all of `query`.

        The rows are found in one step, then read in pages and matched again: a job that was moved meanwhile and no
        longer matches is left out. So a listing without a limit keeps no transaction open.
        """
        require_answerable(query)
        found: list[Job] = []
        while True:
            left = None if query.limit is None else query.limit - len(found)
            numbers = orjson.loads(await self._reader.scan(*search(replace(query, limit=left))))
            read, last = await self._reader.listed(self._sql["job_by_number"], [(number,) for number in numbers])
            matching = [job for job in read if matches(query, job)]
            found += matching
            if query.order is not Order.CREATED or left is None or len(numbers) < left or len(matching) == left:
                return found
            # Jobs that were left out are replaced by the next ones, so that only the last page is not full.
            if last is not None:
                query = replace(query, after=last)

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        """How many jobs are in each state; every state is present."""
        name = "count_by_state"
        if batch_id is not None:
            name = "count_batch_by_state" if due_before is None else "count_batch_by_state_due"
        bindings = {
            "queue": queue,
            "batch_id": batch_id,
            "due_before": _ANY_TIME if due_before is None else to_micros(due_before),
            "states": orjson.dumps(list(JobState)).decode(),
        }
        counted = orjson.loads(await self._reader.scan(statements("finding")[name], bindings))
        return {state: counted[state.value] for state in JobState}

    async def owners(self, queue: str, unique_keys: Sequence[str], *, now: datetime) -> Mapping[str, KeyOwner]:
        """The owners of these unique keys, tombstones included; free keys are absent."""
        at = to_micros(now)
        found = await self._reader.jobs(self._sql["job_by_key"], [(queue, key) for key in unique_keys])
        living = {job.unique_key for job in found}
        buried = await self._reader.rows(
            self._sql["tombstone_by_key"], [(queue, key, at) for key in unique_keys if key not in living]
        )
        found += [remembered(row) for row in buried]
        return {
            job.unique_key: KeyOwner(job.id, job.body_digest, job.state) for job in found if job.unique_key is not None
        }

    async def delete(self, jobs: Sequence[Job], *, keep_keys_until: datetime) -> Sequence[bool]:
        """Delete jobs, each only while it still has the revision given; its unique key answers on until then."""
        if not jobs:
            return []
        return await self._writer.carry_out(
            lambda transaction: writes.delete(jobs, keep_keys_until=keep_keys_until, transaction=transaction)
        )

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """The events of a queue behind `after`, oldest first."""
        statement = statements("outbox")["events_after"]
        found: list[Event] = []
        while (left := limit - len(found)) > 0:
            page = min(left, _EVENTS_AT_ONCE)
            rows = await self._reader.rows(statement, [(queue, after, page)])
            found += [_event_of(row) for row in rows]
            if len(rows) < page:
                break
            after = found[-1].sequence
        return found

    async def forget_events(self, queue: str, *, before: datetime) -> int:
        """Drop events from before this time, some at a time; says how many."""
        return await drop_all(self._writer, statements("outbox")["forget_events"], (queue, to_micros(before)))

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Return when the queue's change count is no longer `seen`, or at `until`. Gives the count."""
        while True:
            changed = self._wakeups.event(queue)  # first, so that no change after the read is missed
            count = await self._reader.look(partial(_change_count, self._sql["change_count"], queue))
            left = (until - self._clock.now()).total_seconds()
            if count != seen or left <= 0:
                return count
            with anyio.move_on_after(min(left, _LOOK_EVERY)):
                await changed.wait()


async def _taken_apart(take_apart: Callable[[T], U], many: Sequence[T]) -> list[U]:
    parts: list[U] = []
    for start in range(0, len(many), _TAKEN_APART_AT_ONCE):
        if start:
            await checkpoint()
        parts += [take_apart(one) for one in many[start : start + _TAKEN_APART_AT_ONCE]]
    return parts


def _change_count(statement: str, queue: str, db: Connection) -> int:
    rows = db.rows(statement, (queue,))
    return rows[0][0] if rows else 1


def _event_of(row: tuple[int, str, str, int, str, str, int]) -> Event:
    sequence, job_id, kind, at, state, revision, post = row
    if state not in _STATES:
        raise StoreVersionError(
            f"event {sequence} has the state {state[:40]!r}, which this version of voiceflow-worker does not know: a "
            "newer one wrote it. Upgrade this installation; nothing was changed."
        )
    return Event(
        job_id=job_id,
        kind=EventKind(kind),
        at=from_micros(at),
        state=JobState(state),
        revision=revision,
        post=post,
        sequence=sequence,
    )
