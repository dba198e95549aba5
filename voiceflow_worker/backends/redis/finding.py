"""Queries of jobs in Redis, each through an index that suits it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from voiceflow_worker.backends.record import matches, readable
from voiceflow_worker.backends.redis.codec import job_of_row, micros, optional
from voiceflow_worker.backends.redis.link import Link
from voiceflow_worker.core.ports.store import Order, Query
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import Totals

_PAGE = 500
"""The most jobs that one script reads, in a few milliseconds."""
_LOOKS = 2000
"""The most heads that one script examines, in a few milliseconds."""

_Rows = list[Sequence[str]]
_Count = Callable[[str | None, datetime | None], Awaitable[Totals]]
"""Counts the jobs of a batch or of the queue, those that are due by a time or all."""


class Finding:
    """A query of jobs. Jobs are read in pages, and a job is returned as it is when its page is read."""

    def __init__(self, link: Link, query: Query, now: datetime, count: _Count) -> None:
        self._link = link
        self._query = query
        self._now = now
        self._count = count
        outcomes = "\n".join(["", *(f"={name}" for name in sorted(query.outcomes or ())), ""])
        self._filters = {
            "queue": query.queue,
            "now": micros(now),
            "states": "" if query.states is None else f",{','.join(query.states)},",
            "batch": optional(query.batch_id),
            "due": micros(query.due_before),
            "valid": micros(query.valid_before),
            "outcomes": "" if query.outcomes is None else outcomes,
        }

    async def jobs(self) -> Sequence[Job]:
        """The jobs that match the query, in its order."""
        query = self._query
        read = partial(job_of_row, query.queue)
        if query.limit is not None and query.limit <= 0:
            return []
        if query.ids is not None:
            return self._sorted(map(read, await self._read_all("ids", query.ids)))
        if query.unique_keys is not None:
            found = await self._read_all("keys", [optional(key) for key in query.unique_keys])
            return self._sorted(readable(found, read))
        return list(readable(await self._rows(), read))

    async def _rows(self) -> _Rows:
        query = self._query
        if query.destination is not None:
            return await self._walk(f":number:{query.destination}")
        by_state = query.valid_before is None and query.outcomes is None
        if query.order is Order.DUE:
            return await self._by_time(self._state_indexes(), query.due_before, alone=by_state)
        if query.order is Order.ANY and query.after is None and query.limit is not None:
            if self._is_by_validity():
                return await self._by_time([":valid"], query.valid_before, alone=True)
            if by_state:
                return await self._by_time(self._state_indexes(), query.due_before, alone=True)
        if await self._is_rare():
            return await self._collect()
        return await self._walk(":ids" if query.batch_id is None else f":batch:={query.batch_id}:ids")

    async def _by_time(self, indexes: Sequence[str], latest: datetime | None, *, alone: bool) -> _Rows:
        """The jobs in these indexes that match, in the order of their scores. Only scores up to `latest` are read.

        `alone` says that each of them matches. Then no more entries of an index are read than the query's limit.
        """
        scores = {"indexes": indexes, "latest": micros(latest) or "+inf", "matches": alone}
        return (await self._script(self._query.limit, **scores))[1]

    async def _walk(self, index: str) -> _Rows:
        """The matching jobs in an index of ids, in the order of the ids. Each job in the index is examined."""
        query, found, after = self._query, _Rows(), self._query.after or ""
        while True:
            wanted = _PAGE if query.limit is None else min(query.limit - len(found), _PAGE)
            order = {"is_newest": query.order is Order.NEWEST, "after": after, "looks": _LOOKS}
            after, rows = await self._script(wanted, walk=index, **order)
            found += rows
            if not after or len(found) == query.limit:
                return found

    async def _collect(self) -> _Rows:
        """The matching jobs in the indexes of states, sorted by id in this process. This is quick if few match."""
        query, ids = self._query, list[str]()
        part = {"queue": query.queue, "first": "-inf", "last": micros(query.due_before) or "+inf", "most": -1}
        for index in self._state_indexes():
            ids += await self._link.run("range", {"index": index, **part})
        ids = sorted((job_id for job_id in ids if self._is_behind(job_id)), reverse=query.order is Order.NEWEST)
        found = _Rows()
        for start in range(0, len(ids), _PAGE):
            found += (await self._script(None, ids=ids[start : start + _PAGE]))[1]
            if query.limit is not None and len(found) >= query.limit:
                return found[: query.limit]
        return found

    async def _is_rare(self) -> bool:
        """Whether so few jobs are in the states, or due, that collecting them examines fewer jobs than a walk.

        A walk examines about `limit` / density jobs, where density is the share of jobs that match.
        """
        query = self._query
        if query.states is None and query.due_before is None:
            return False
        every = (await self._count(query.batch_id, None)).states
        some = every if query.due_before is None else (await self._count(query.batch_id, query.due_before)).states
        held = sum(amount for state, amount in some.items() if query.states is None or state in query.states)
        most = sum(every.values())
        wanted = most if query.limit is None else min(query.limit, most)
        return held <= wanted or held * held <= wanted * most

    async def _read_all(self, how: str, names: Sequence[str]) -> _Rows:
        names, rows = list(dict.fromkeys(names)), _Rows()
        for start in range(0, len(names), _PAGE):
            rows += (await self._script(None, **{how: names[start : start + _PAGE]}))[1]
        return rows

    async def _script(self, limit: int | None, **how: Any) -> tuple[str, _Rows]:
        after, *rows = await self._link.run("jobs", self._filters | {"limit": -1 if limit is None else limit} | how)
        return after, rows

    def _sorted(self, found: Iterable[Job]) -> list[Job]:
        query = self._query
        jobs = [job for job in found if matches(query, job)]
        jobs.sort(key=lambda job: (job.due_at if query.order is Order.DUE else self._now, job.id))
        if query.order is Order.NEWEST:
            jobs.reverse()
        return jobs[: query.limit]

    def _is_behind(self, job_id: str) -> bool:
        """Whether a job comes after `query.after` in the order of the listing."""
        after = self._query.after
        if after is None:
            return True
        return job_id < after if self._query.order is Order.NEWEST else job_id > after

    def _is_by_validity(self) -> bool:
        """Whether the query asks for queued jobs by the end of their validity alone, for which there is an index."""
        query = self._query
        others = (query.batch_id, query.due_before, query.outcomes)
        return query.states == frozenset({JobState.QUEUED}) and query.valid_before is not None and set(others) == {None}

    def _state_indexes(self) -> list[str]:
        states, batch = self._query.states, self._query.batch_id
        of = "" if batch is None else f":batch:={batch}"
        return [f"{of}:state:{state}" for state in JobState if states is None or state in states]
