"""Jobs in SQLite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import orjson

from voiceflow_worker.backends.matching import matches
from voiceflow_worker.backends.record import event_from, readable, to_micros
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit
from voiceflow_worker.backends.sqlite.leasing import lease
from voiceflow_worker.backends.sqlite.reading import Reader, job_of, known_keys
from voiceflow_worker.backends.sqlite.records import drop_all
from voiceflow_worker.backends.sqlite.searches import search
from voiceflow_worker.backends.tombstones import remembered
from voiceflow_worker.backends.wakeups import Wakeups
from voiceflow_worker.core.ports import Clock, Event, Jobs, KeyOwner, Order, Query
from voiceflow_worker.core.ports.clock import SystemClock
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import STATE, Totals

_EVENTS_AT_ONCE = 256
_KEYS_AT_ONCE = 256
_LOOK_EVERY = 0.02
"""Seconds between two checks for changes by other processes. A change by this process wakes waiting tasks at once."""
_MACHINE = SystemClock()
"""The clock for these checks. A test may set the store's clock by hand, but other processes change the file in real
time."""


class SqliteJobs(Jobs):
    """The port `Jobs` in SQLite."""

    def __init__(self, writer: GroupCommit, reader: Reader, wakeups: Wakeups, clock: Clock) -> None:
        self._writer = writer
        self._reader = reader
        self._wakeups = wakeups
        self._clock = clock
        self._sql = statements("jobs")
        self._totals_sql = statements("totals")

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
        # A power cut may undo a lease. Its job is then queued, and was not sent: the journal comes after the lease.
        rows = await self._writer.carry_out(work, durably=False)
        return list(readable(rows, job_of))

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        found = await self._reader.jobs(self._sql["job_by_id"], [(job_id,) for job_id in job_ids])
        return {job.id: job for job in found}

    async def find(self, query: Query) -> Sequence[Job]:
        """Find the row numbers of the matching jobs, then read the jobs in pages.

        No transaction stays open between pages. A job that has changed meanwhile and no longer matches is left out.
        """
        if query.order is Order.ANY and query.after is not None:
            query = replace(query, order=Order.CREATED)
        found: list[Job] = []
        while True:
            left = None if query.limit is None else query.limit - len(found)
            numbers = orjson.loads(await self._reader.scan(*search(replace(query, limit=left))))
            before, last = len(found), None
            async with aclosing(self._reader.numbered(self._sql["jobs_by_numbers"], numbers)) as pages:
                async for rows in pages:
                    found += [job for job in readable(rows, job_of) if matches(query, job)]
                    last = rows[-1][0]
            by_id = query.order in {Order.CREATED, Order.NEWEST}
            if not by_id or left is None or len(numbers) < left or len(found) - before == left:
                return found
            # The next jobs replace those that were left out, so that only the last page has fewer than `limit`.
            if last is not None:
                query = replace(query, after=last)

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        if due_before is None:
            return await self._states(queue, batch_id=batch_id)
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
        bindings = {"queue": queue} if batch_id is None else {"queue": queue, "batch": _place(batch_id)}
        found = orjson.loads(
            await self._reader.scan(self._totals_sql["of_queue" if batch_id is None else "of_batch"], bindings)
        )
        return Totals(
            live={field: live for field, live, _ in found if live},
            pruned={field: pruned for field, _, pruned in found if pruned},
        )

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
            change = self._wakeups.next(queue)  # first, so that no change after the read is missed
            rows = await self._reader.rows(self._sql["change_count"], [(queue,)])
            count: int = rows[0][0] if rows else 1
            left = (until - self._clock.now()).total_seconds()
            if count != seen or left <= 0:
                return count
            await change.wait(_MACHINE, within=min(left, _LOOK_EVERY))

    async def _states(self, queue: str, *, batch_id: str | None) -> Mapping[JobState, int]:
        """The number of jobs in each state, also for states without jobs."""
        bindings = {"queue": queue, "states": orjson.dumps(list(JobState)).decode()}
        if batch_id is not None:
            bindings["batch"] = _place(batch_id)
        name = "states_of_queue" if batch_id is None else "states_of_batch"
        counted = orjson.loads(await self._reader.scan(self._totals_sql[name], bindings))
        return {state: counted[STATE + state] or 0 for state in JobState}


def _place(batch_id: str) -> str:
    return f"={batch_id}"
