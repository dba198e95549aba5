"""Jobs in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import anyio
import orjson

from voiceflow_worker.backends.admission import remembered
from voiceflow_worker.backends.matching import matches, require_answerable, require_well_formed
from voiceflow_worker.backends.record import event_from, in_slices, readable, tally_all, to_micros
from voiceflow_worker.backends.sqlite import writes
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit
from voiceflow_worker.backends.sqlite.leasing import lease
from voiceflow_worker.backends.sqlite.reading import Reader, job_of, known_keys
from voiceflow_worker.backends.sqlite.records import drop_all
from voiceflow_worker.backends.sqlite.searches import search
from voiceflow_worker.backends.sqlite.totals import SqliteTotals
from voiceflow_worker.backends.wakeups import Wakeups
from voiceflow_worker.core.ports import Clock, Enqueued, Event, Jobs, KeyOwner, Move, Order, Query
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.tally import Totals

_EVENTS_AT_ONCE = 256
_KEYS_AT_ONCE = 256
_LOOK_EVERY = 0.025
"""Seconds between two checks for changes by other processes, 6 µs each. Changes by this process wake at once."""


class SqliteJobs(Jobs):
    """The port `Jobs` in a file."""

    def __init__(self, writer: GroupCommit, reader: Reader, wakeups: Wakeups, clock: Clock) -> None:
        self._writer = writer
        self._reader = reader
        self._wakeups = wakeups
        self._clock = clock
        self._totals = SqliteTotals(writer, reader)
        self._sql = statements("jobs")

    async def enqueue(self, jobs: Sequence[Job], *, now: datetime) -> Sequence[Enqueued]:
        if not jobs:
            return []
        encoded = await in_slices(writes.encoded, jobs)
        return await self._writer.carry_out(partial(writes.enqueue, encoded, now=now))

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
        work = partial(lease, queue, worker_id=worker_id, limit=limit, lease_for=lease_for, now=now, batch_id=batch_id)
        rows = await self._writer.carry_out(work)
        return readable(rows, job_of)

    async def commit(self, moves: Sequence[Move]) -> Sequence[bool]:
        require_well_formed(moves)
        if not moves:
            return []
        changes = await in_slices(writes.encoded_move, moves)
        return await self._writer.carry_out(partial(writes.commit, changes))

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        found = await self._reader.jobs(self._sql["job_by_id"], [(job_id,) for job_id in job_ids])
        return {job.id: job for job in found}

    async def find(self, query: Query) -> Sequence[Job]:
        """Find the rows in one step, then read them in pages, so that a long listing keeps no transaction open.

        A job that was moved meanwhile and no longer matches is left out.
        """
        require_answerable(query)
        if query.outcomes is not None:
            await self._tally(query.queue)
        found: list[Job] = []
        while True:
            left = None if query.limit is None else query.limit - len(found)
            numbers = orjson.loads(await self._reader.scan(*search(replace(query, limit=left))))
            read, last = await self._reader.listed(self._sql["job_by_number"], [(number,) for number in numbers])
            matching = [job for job in read if matches(query, job)]
            found += matching
            by_id = query.order in {Order.CREATED, Order.NEWEST}
            if not by_id or left is None or len(numbers) < left or len(matching) == left:
                return found
            # Jobs that were left out are replaced by the next ones, so that only the last page is not full.
            if last is not None:
                query = replace(query, after=last)

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        if due_before is None:
            return await self._totals.states(queue, batch_id=batch_id)
        name = "count_by_state_due" if batch_id is None else "count_batch_by_state_due"
        bindings = {
            "queue": queue,
            "batch_id": batch_id,
            "due_before": to_micros(due_before),
            "states": orjson.dumps(list(JobState)).decode(),
        }
        counted = orjson.loads(await self._reader.scan(statements("finding")[name], bindings))
        return {state: counted[state.value] for state in JobState}

    async def totals(self, queue: str, *, batch_id: str | None = None) -> Totals:
        """The totals of a queue or of a batch. In an older file the tallies are counted when they are first read."""
        await self._tally(queue)
        return await self._totals.read(queue, batch_id=batch_id)

    async def recount(self, jobs: Sequence[Job]) -> Sequence[bool]:
        return await self._totals.recount(jobs)

    async def adjust(self, queue: str, amounts: Mapping[str | None, Mapping[str, int]]) -> None:
        await self._totals.adjust(queue, amounts)

    async def owners(self, queue: str, unique_keys: Sequence[str], *, now: datetime) -> Mapping[str, KeyOwner]:
        at = to_micros(now)
        known: set[str] = set()
        for start in range(0, len(unique_keys), _KEYS_AT_ONCE):
            part = unique_keys[start : start + _KEYS_AT_ONCE]
            known |= await self._reader.look(partial(known_keys, queue=queue, keys=part))
        found = await self._reader.jobs(self._sql["job_by_key"], [(queue, key) for key in known])
        living = {job.unique_key for job in found}
        buried = await self._reader.rows(
            self._sql["tombstone_by_key"], [(queue, key, at) for key in known if key not in living]
        )
        found += [remembered(row) for row in buried]
        return {
            job.unique_key: KeyOwner(job.id, job.body_digest, job.state) for job in found if job.unique_key is not None
        }

    async def delete(self, jobs: Sequence[Job], *, keep_keys_until: datetime) -> Sequence[bool]:
        if not jobs:
            return []
        return await self._writer.carry_out(partial(writes.delete, jobs, keep_keys_until=keep_keys_until))

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        statement = statements("outbox")["events_after"]
        found: list[Event] = []
        while (left := limit - len(found)) > 0:
            page = min(left, _EVENTS_AT_ONCE)
            rows = await self._reader.rows(statement, [(queue, after, page)])
            found += [event_from(row[0], row[1:]) for row in rows]
            if len(rows) < page:
                break
            after = found[-1].sequence
        return found

    async def forget_events(self, queue: str, *, before: datetime) -> int:
        return await drop_all(self._writer, statements("outbox")["forget_events"], (queue, to_micros(before)))

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        while True:
            changed = self._wakeups.event(queue)  # first, so that no change after the read is missed
            rows = await self._reader.rows(self._sql["change_count"], [(queue,)])
            count: int = rows[0][0] if rows else 1
            left = (until - self._clock.now()).total_seconds()
            if count != seen or left <= 0:
                return count
            with anyio.move_on_after(min(left, _LOOK_EVERY)):
                await changed.wait()

    async def _tally(self, queue: str) -> None:
        if not await self._totals.is_tallied(queue):
            await tally_all(self, queue)
            await self._totals.set_tallied(queue)
