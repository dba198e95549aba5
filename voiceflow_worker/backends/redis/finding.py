"""Queries of jobs in Redis, each through an index that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from voiceflow_worker.backends.record import readable, to_micros
from voiceflow_worker.backends.redis.connection.codec import Argument, job_of_row, micros, optional
from voiceflow_worker.backends.redis.connection.keys import Keys, id_index, state_index
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.core.ports import Order, Query
from voiceflow_worker.model.jobs.job import Job, JobState

_PAGE = 500
"""The most jobs that one script reads, in a few milliseconds."""
_LOOKS = 2000
"""The most heads that one script examines, in a few milliseconds."""


_Range = tuple[str, int | str]
"""The key suffix of an index, and the highest score of the wanted entries."""


async def find(link: Link, keys: Keys, query: Query) -> Sequence[Job]:
    """The jobs that match `query`, in the order of the query."""
    key = keys.queue(query.queue)
    if query.unique_key is not None:
        owner = await link.ask(lambda client: client.hget(f"{key}:keys", optional(query.unique_key)))
        return await pick(link, keys, query, [owner]) if owner is not None and _is_behind(owner, query) else []
    match query.order:
        case Order.DUE:
            alone = query.destination is None and query.valid_before is None and query.outcomes is None
            return await _find_due(link, keys, query, _state_indexes(query), query.due_before, alone=alone)
        case Order.ANY if _by_validity(query):
            return await _find_due(link, keys, query, [":valid"], query.valid_before, alone=True)
        case Order.ANY if query.destination is None and query.valid_before is None and query.outcomes is None:
            return await _find_due(link, keys, query, _state_indexes(query), query.due_before, alone=True)
        case _ if query.destination is not None:
            return await _walk(link, keys, query, f":dest:{optional(query.destination)}")
        case _:
            index = await _narrowest(link, keys, query)
            if index is None:
                return await _walk(link, keys, query, id_index(query.batch_id))
            return await _collect(link, keys, query, index)


async def pick(link: Link, keys: Keys, query: Query, ids: Sequence[str]) -> Sequence[Job]:
    """The jobs with these ids that match `query`, in the order of the ids."""
    return _jobs(query, await pick_rows(link, keys, query, ids))


async def pick_rows(link: Link, keys: Keys, query: Query, ids: Sequence[str]) -> Sequence[Sequence[str]]:
    """The rows of the jobs with these ids that match `query`, including jobs of a newer version."""
    if not ids:
        return []
    rows: Sequence[Sequence[str]] = await link.run("pick", keys.queue(query.queue), [*_filters(query), *ids])
    return rows


async def _find_due(
    link: Link, keys: Keys, query: Query, indexes: Sequence[str], latest: datetime | None, *, alone: bool
) -> Sequence[Job]:
    """The jobs in these indexes that match `query`, in the order of their scores.

    Only jobs with a score up to `latest` are read. `alone` says that each of them matches. Then no more entries of an
    index are read than the query's limit.
    """
    args: list[Argument] = [
        *_filters(query),
        "" if query.limit is None else query.limit,
        int(alone),
        micros(latest),
        *indexes,
    ]
    rows = await link.run("due", keys.queue(query.queue), args)
    return _jobs(query, rows)


async def _walk(link: Link, keys: Keys, query: Query, index: str) -> Sequence[Job]:
    """The matching jobs in an index of ids, in the order of the ids. Each job in the index is examined."""
    found: list[Job] = []
    after = query.after or ""
    while True:
        wanted = _PAGE if query.limit is None else min(query.limit - len(found), _PAGE)
        args = [*_filters(query), index, after, wanted, _LOOKS, int(query.order is Order.NEWEST)]
        after, *rows = await link.run("walk", keys.queue(query.queue), args)
        found += _jobs(query, rows)
        if not after or len(found) == query.limit:
            return found


async def _collect(link: Link, keys: Keys, query: Query, indexes: Sequence[_Range]) -> Sequence[Job]:
    """The matching jobs in these indexes, sorted by id in this process. This is quick if few of many jobs match."""
    key = keys.queue(query.queue)
    ids: list[str] = []
    for index, latest in indexes:
        ids += await link.run("ids_until", key, [index, latest])
    ids = sorted((job_id for job_id in ids if _is_behind(job_id, query)), reverse=query.order is Order.NEWEST)
    found: list[Job] = []
    for start in range(0, len(ids), _PAGE):
        found += await pick(link, keys, query, ids[start : start + _PAGE])
        if query.limit is not None and len(found) >= query.limit:
            return found[: query.limit]
    return found


async def _narrowest(link: Link, keys: Keys, query: Query) -> Sequence[_Range] | None:
    """The indexes to collect jobs from; None if a walk through all ids examines fewer jobs.

    A walk examines about `limit` / density jobs, where density is the share of jobs that match. Collecting reads every
    entry of the indexes.
    """
    if query.states is None and query.due_before is None and query.valid_before is None:
        return None
    latest: int | str = "+inf" if query.due_before is None else to_micros(query.due_before)
    indexes: list[_Range] = [(index, latest) for index in _state_indexes(query)]
    if query.valid_before is not None and _by_validity(query):
        indexes = [(":valid", to_micros(query.valid_before))]
    args: list[Argument] = [id_index(query.batch_id)]
    for index, until in indexes:
        args += (index, until)
    all_of_them, held = await link.run("weigh", keys.queue(query.queue), args)
    wanted = all_of_them if query.limit is None else min(query.limit, all_of_them)
    if held <= wanted or held * held <= wanted * all_of_them:
        return indexes
    return None


def _is_behind(job_id: str, query: Query) -> bool:
    """Whether a job comes after `query.after` in the order of the listing."""
    if query.after is None:
        return True
    return job_id < query.after if query.order is Order.NEWEST else job_id > query.after


def _by_validity(query: Query) -> bool:
    """Whether the query asks for queued jobs by the end of their validity, and has no other condition.

    These jobs have an index of their own.
    """
    return (
        query.valid_before is not None
        and query.states == frozenset({JobState.QUEUED})
        and query.batch_id is None
        and query.destination is None
        and query.due_before is None
        and query.outcomes is None
    )


def _jobs(query: Query, rows: Sequence[Sequence[str]]) -> list[Job]:
    return list(readable(rows, partial(job_of_row, query.queue)))


def _state_indexes(query: Query) -> list[str]:
    states = [state for state in JobState if query.states is None or state in query.states]
    return [state_index(state, query.batch_id) for state in states]


def _filters(query: Query) -> list[Argument]:
    return [
        "" if query.states is None else f",{','.join(query.states)},",
        optional(query.batch_id),
        optional(query.destination),
        optional(query.unique_key),
        micros(query.due_before),
        micros(query.valid_before),
        "" if query.outcomes is None else "".join(f"\n{name}" for name in sorted(query.outcomes)) + "\n",
    ]
