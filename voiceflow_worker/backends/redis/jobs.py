"""Jobs in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

import orjson

from voiceflow_worker.backends.matching import require_answerable
from voiceflow_worker.backends.record import readable, to_micros
from voiceflow_worker.backends.redis import finding
from voiceflow_worker.backends.redis.changes import QueueChanges
from voiceflow_worker.backends.redis.connection.codec import (
    Argument,
    event_of,
    job_of_row,
    micros,
    optional,
    owner_of,
)
from voiceflow_worker.backends.redis.connection.keys import Keys, pruned_key, state_index, totals_key
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.backends.redis.registers import Registers
from voiceflow_worker.core.ports import Event, Jobs, KeyOwner, Query
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import STATE, Totals

_PAGE = 500
"""The most jobs that one script reads, in a few milliseconds."""
_ROUNDS = 500
"""The most times that a lease runs its script again because the script found only expired or held jobs."""


class RedisJobs(Jobs):
    """The port `Jobs` in Redis. Every change of a queue is made by one script, so it is atomic."""

    def __init__(self, link: Link, keys: Keys, registers: Registers, changes: QueueChanges) -> None:
        self._link = link
        self._keys = keys
        self._registers = registers
        self._changes = changes

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
        """Lease jobs, but not durably. If the server loses a lease, its job is still queued and unsent."""
        ends = to_micros(now + lease_for)
        for _ in range(_ROUNDS):
            args: list[Argument] = [to_micros(now), limit, ends, optional(worker_id), optional(batch_id), uuid4().hex]
            answer = await self._link.run("lease", self._keys.queue(queue), args)
            stopped_early, *rows = orjson.loads(answer)
            if rows or not stopped_early:
                return list(readable(rows, partial(job_of_row, queue)))
        return []

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        by_queue: dict[str, list[str]] = {}
        for job_id in dict.fromkeys(job_ids):
            by_queue.setdefault(job_id.partition(".")[0], []).append(job_id)
        found: dict[str, Job] = {}
        for queue, ids in by_queue.items():
            for start in range(0, len(ids), _PAGE):
                part = ids[start : start + _PAGE]
                for row in await finding.pick_rows(self._link, self._keys, Query(queue=queue), part):
                    job = job_of_row(queue, row)
                    found[job.id] = job
        return found

    async def find(self, query: Query) -> Sequence[Job]:
        """Read the matching jobs in pages. A job is returned as it is when its page is read."""
        require_answerable(query)
        if query.limit is not None and query.limit <= 0:
            return []
        return await finding.find(self._link, self._keys, query)

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        args: list[Argument] = [micros(due_before), *(state_index(state, batch_id) for state in JobState)]
        counted = await self._link.run("count", self._keys.queue(queue), args)
        return dict(zip(JobState, counted, strict=True))

    async def totals(self, queue: str, *, batch_id: str | None = None) -> Totals:
        args: list[Argument] = [totals_key(batch_id), "" if batch_id is None else pruned_key(batch_id)]
        args += [state_index(state, batch_id) for state in JobState]
        live, pruned, states = await self._link.run("totals", self._keys.queue(queue), args)
        counted = {STATE + state: count for state, count in zip(JobState, states, strict=True) if count}
        return Totals(live=_numbers(live) | counted, pruned=_numbers(pruned))

    async def owners(self, queue: str, unique_keys: Sequence[str], *, now: datetime) -> Mapping[str, KeyOwner]:
        if not unique_keys:
            return {}
        args: list[Argument] = [to_micros(now), *(optional(key) for key in unique_keys)]
        answers = await self._link.run("owners", self._keys.queue(queue), args)
        owners = {key: owner_of(queue, answer) for key, answer in zip(unique_keys, answers, strict=True)}
        return {key: owner for key, owner in owners.items() if owner is not None}

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        if limit <= 0:
            return []
        args: list[Argument] = [f"({after}", limit]
        return [event_of(text) for text in await self._link.run("events", self._keys.queue(queue), args)]

    async def forget_events(self, queue: str, *, before: datetime) -> int:
        return await self._link.drop_all("forget_events", self._keys.queue(queue), before)

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        return await self._changes.wait(queue, seen=seen, until=until)


def _numbers(pairs: Sequence[str]) -> dict[str, int]:
    return {field: int(amount) for field, amount in zip(pairs[::2], pairs[1::2], strict=True)}
