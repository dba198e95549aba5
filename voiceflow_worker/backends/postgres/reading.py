"""The reads of jobs and of records: the statement of each, planned each time for its values, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import orjson
from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.postgres.codec import JOB, RECORD, job_of, record_from
from voiceflow_worker.backends.postgres.database import Database
from voiceflow_worker.backends.postgres.survey import Row
from voiceflow_worker.backends.record import readable, tombstone_job
from voiceflow_worker.core.ports.reads import (
    AnyOf,
    ById,
    ByKey,
    Counted,
    Due,
    Expired,
    Listing,
    OfNumber,
    Paged,
    Read,
    Waiting,
)
from voiceflow_worker.core.ports.store import Page, Record, Wanted
from voiceflow_worker.model.jobs.job import Job

Statement = tuple[str, Sequence[object]]
"""A statement, and the values in it."""
Condition = tuple[str, object]
"""A condition, and the value in it. With None for its value, it does not restrict a read."""

_ALL_WITHIN = 300.0
"""Seconds for a read without a limit: 400,000 calls take about ten."""
_AT_ONCE = 64
"""The number of jobs that are decoded before other tasks may run: about a millisecond."""

# --- Jobs --------------------------------------------------------------------------------------------------------

_BY_ID = f"SELECT {JOB} FROM voiceflow.calls WHERE id = ANY (%s)"
# What is kept of a deleted job comes after the columns of a job.
# Each key is a question of its own: of a list of keys, all tombstones of a small store may be read in place of some.
_BY_KEY = f"""
SELECT {JOB}, NULL FROM voiceflow.calls WHERE unique_key = ANY (%s)
UNION ALL
SELECT {", ".join(["NULL"] * len(JOB.split(",")))}, value FROM (
    SELECT (
        SELECT value FROM voiceflow.records
        WHERE namespace = 'tombstone' AND group_name = '' AND member = wanted.key AND ends_at > %s
    ) AS value
    FROM (SELECT DISTINCT unnest(%s::text[]) AS key) AS wanted
    OFFSET 0
) AS buried
WHERE value IS NOT NULL
"""

_WAITS = "queue = %s AND state = 'queued' AND coalesce(batch_id, '') = %s AND batch_id IS NOT NULL"
# The index of what waits in a batch has each urgency apart: so the first jobs of each are read, and no others.
_WAITING = f"""
WITH RECURSIVE found AS (
    SELECT max(urgency) AS level FROM voiceflow.jobs WHERE {_WAITS}
    UNION ALL
    SELECT (SELECT max(urgency) FROM voiceflow.jobs WHERE {_WAITS} AND urgency < level)
    FROM found WHERE level IS NOT NULL
)
SELECT {JOB} FROM found, LATERAL (
    SELECT * FROM voiceflow.calls
    WHERE {_WAITS} AND urgency = level AND due_at <= %s ORDER BY due_at, id LIMIT %s
) AS first ORDER BY due_at, id LIMIT %s
"""


async def read_jobs(database: Database, read: Read, *, now: datetime) -> list[Job]:
    match read:
        case ById(ids):
            return [job_of(row) for row in await database.rows(_BY_ID, list(ids))]
        case ByKey(keys):
            rows = await database.rows(_BY_KEY, list(keys), now, list(keys))
            return list(readable(rows, _owner))
        case _:
            return await _found(database, read)


def _owner(row: Row) -> Job:
    return job_of(row) if row[-1] is None else tombstone_job(orjson.loads(row[-1]))


async def _found(database: Database, read: Due | Expired | Waiting | OfNumber | Listing) -> list[Job]:
    found: list[Job] = []
    while True:
        left = None if read.limit is None else max(read.limit - len(found), 0)
        statement, values = search(replace(read, limit=left))
        rows = await database.rows(statement, *values, within=_ALL_WITHIN if left is None else None)
        before = len(found)
        for start in range(0, len(rows), _AT_ONCE):
            found += readable(rows[start : start + _AT_ONCE], job_of)
            await checkpoint()
        if not isinstance(read, Paged) or left is None or len(rows) < left or len(found) - before == left:
            return found
        # The next jobs replace those that were left out, so that only the last page has fewer than `limit`.
        read = replace(read, after=rows[-1][0])


def _overdue(read: Due | Expired) -> list[Condition]:
    if isinstance(read, Due):
        return [("queue = %s", read.queue), ("state = %s", read.state.value), ("due_at <= %s", read.by)]
    return [("queue = %s", read.queue), ("state = %s", "queued"), ("valid_until <= %s", read.at)]


def search(read: Due | Expired | Waiting | OfNumber | Listing) -> Statement:
    of_queue: Condition = ("queue = %s", read.queue)
    match read:
        case Due() | Expired():
            order = "ORDER BY due_at, id" if isinstance(read, Due) else ""
            return _select("voiceflow.calls", _overdue(read), order, read.limit)
        case Waiting(batch=batch, by=by):
            of_batch = (read.queue, batch)
            return _WAITING, (*of_batch * 3, by or "infinity", read.limit, read.limit)
        case OfNumber(number=number):
            jobs = "voiceflow.numbers JOIN voiceflow.calls USING (queue, id)"
            return _by_age(read, jobs, [of_queue, ("telephone = %s", number)])
        case Listing(batch=None, states=frozenset() as states, outcomes=outcomes):
            of_state = ("queue = %s AND state = in_state", read.queue)
            first, values = _by_age(read, "voiceflow.calls", [of_state, ("outcome = ANY (%s)", _names(outcomes))])
            of_states = f"unnest(%s::text[]) AS wanted (in_state), LATERAL ({first}) AS first"
            return f"SELECT {JOB} FROM {of_states} {_order(read)} LIMIT %s", [_names(states), *values, read.limit]
        case Listing(batch=batch, states=states, outcomes=outcomes):
            # The ids say which queue it is; its name would only mislead the planner, unless another index needs it.
            of_part = [] if batch is None else [of_queue, ("batch_id = %s", batch)]
            among = [("state = ANY (%s)", _names(states)), ("outcome = ANY (%s)", _names(outcomes))]
            return _by_age(read, "voiceflow.calls", [*of_part, *among])


def counting(read: Counted | AnyOf) -> Statement:
    if isinstance(read, AnyOf):
        each = [_select("voiceflow.jobs", _overdue(one), "", 1, what="1") for one in read.reads]
        found = " UNION ALL ".join(f"({statement})" for statement, _ in each)
        return f"SELECT count(*) FROM ({found}) AS found", [value for _, values in each for value in values]
    conditions: list[Condition] = [("queue = %s", read.queue), ("due_at <= %s", read.by)]
    match read:
        case Due(state=state):
            conditions.append(("state = %s", state.value))
        case Waiting(batch=batch):
            conditions += [("state = 'queued' AND coalesce(batch_id, '') = %s", batch), ("batch_id = %s", batch)]
    return _select("voiceflow.jobs", conditions, "", None, what="count(*)")


def _by_age(read: OfNumber | Listing, jobs: str, conditions: Sequence[Condition]) -> Statement:
    # An id begins with its queue and a dot; the character behind the dot is the slash.
    behind, before = ("id < %s", "id > %s") if read.newest else ("id > %s", "id < %s")
    first, last = (f"{read.queue}/", f"{read.queue}.") if read.newest else (f"{read.queue}.", f"{read.queue}/")
    bounds = [(behind, read.after or first), (before, last)]
    return _select(jobs, [*conditions, *bounds], _order(read), read.limit)


def _order(read: OfNumber | Listing) -> str:
    return f"ORDER BY id {'DESC' if read.newest else 'ASC'}"


def _select(jobs: str, conditions: Sequence[Condition], order: str, limit: int | None, *, what: str = JOB) -> Statement:
    given = [(condition, value) for condition, value in conditions if value is not None]
    where = " AND ".join(condition for condition, _ in given)
    return f"SELECT {what} FROM {jobs} WHERE {where} {order} LIMIT %s", [*(value for _, value in given), limit]


def _names(chosen: frozenset[str] | None) -> list[str] | None:
    return None if chosen is None else [str(name) for name in chosen]


# --- Records -----------------------------------------------------------------------------------------------------

# The records of whole groups and single ones of a namespace. No array has NULLs: `array_nulls` may be off.
_OF_KEYS = f"""
SELECT %s::integer AS part, ordinal, found.*
FROM unnest(%s::text[], %s::text[], %s::boolean[]) WITH ORDINALITY AS wanted (of_group, of_member, is_whole, ordinal),
LATERAL (
    SELECT {RECORD} FROM voiceflow.records
    WHERE namespace = %s AND group_name = of_group AND is_whole AND voiceflow.is_current(ends_at, %s)
    UNION ALL
    SELECT {RECORD} FROM voiceflow.records
    WHERE namespace = %s AND group_name = of_group AND member = of_member AND NOT is_whole
        AND voiceflow.is_current(ends_at, %s)
) AS found
"""
_PAGE = f"""
(SELECT %s::integer AS part, 0 AS ordinal, {RECORD} FROM voiceflow.records
WHERE namespace = %s AND voiceflow.is_current(ends_at, %s) {{more}} ORDER BY group_name, member LIMIT %s)
"""


async def read_records(database: Database, wanted: Wanted, *, now: datetime) -> dict[str, list[Record]]:
    """Return the current records of several namespaces, in one statement: all are of one moment."""
    found: dict[str, list[Record]] = {namespace: [] for namespace in wanted}
    if not wanted:
        return found
    parts = [_part(ordinal, namespace, each, now) for ordinal, (namespace, each) in enumerate(wanted.items())]
    union = " UNION ALL ".join(part for part, _ in parts)
    statement = f"SELECT part, {RECORD} FROM ({union}) AS parts ORDER BY part, ordinal, group_name, member"
    namespaces = list(wanted)
    for part, *row in await database.rows(statement, *(value for _, values in parts for value in values)):
        found[namespaces[part]].append(record_from(*row))
    return found


def _part(ordinal: int, namespace: str, each: Sequence[str | tuple[str, str]] | Page, now: datetime) -> Statement:
    if not isinstance(each, Page):
        keys = [(key, "", True) if isinstance(key, str) else (*key, False) for key in each]
        groups, members, whole = ([key[column] for key in keys] for column in range(3))
        return _OF_KEYS, (ordinal, groups, members, whole, namespace, now, namespace, now)
    more, values, beyond, after = "", list[object](), ">", each.after
    if each.group is not None:
        # Without statistics, a planner takes the group of a number for two rows: asked for by `=`, all would be sorted.
        more, values = "AND group_name <= %s", [each.group]
        if after is None or after < (each.group, ""):
            beyond, after = ">=", (each.group, "")
    if after is not None:
        more, values = f"{more} AND (group_name, member) {beyond} (%s, %s)", [*values, *after]
    return _PAGE.format(more=more), (ordinal, namespace, now, *values, max(each.limit, 0))
