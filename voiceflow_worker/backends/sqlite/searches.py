"""The SQL statements for queries. A statement reads the narrowest index, and checks the other conditions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import orjson

from voiceflow_worker.backends.kept_facts import NO_FACTS
from voiceflow_worker.backends.record import to_micros
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.core.ports import Order, Query
from voiceflow_worker.model.jobs.job import JobState

_QUEUED = frozenset({JobState.QUEUED})
_WAYS_IN = {"unique_key": "by_key", "destination": "by_destination", "batch_id": "by_batch"}
"""The conditions that few jobs match, fewest first, each with the name of the statement that reads its index."""


def search(query: Query) -> tuple[str, dict[str, Any]]:
    """The statement for a query, and its bindings. The statement returns a JSON list of row numbers, in order."""
    sql = statements("finding")
    given = _conditions(query)
    way_in, met = _way_in(query, given)
    pieces = [sql[way_in], *(sql[f"and_{name}"] for name in given if name != met), sql[query.order.value]]
    limit = -1 if query.limit is None else max(query.limit, 0)
    return sql["as_one_row"].replace("{search}", "\n".join(pieces)), {"queue": query.queue, "limit": limit, **given}


def facts_page(queue: str, batch_id: str | None, *, after: str, limit: int) -> tuple[str, dict[str, Any]]:
    """The statement for a page of facts after a job id, and its bindings. The statement returns one value."""
    bindings = {"queue": queue, "after": after, "limit": limit, "none": NO_FACTS}
    return _facts_of(batch_id is not None), bindings if batch_id is None else {**bindings, "batch_id": batch_id}


@cache
def _facts_of(a_batch: bool) -> str:  # noqa: FBT001 - a key of the cache
    sql = statements("facts")
    states = " UNION ALL ".join(sql["of_batch_in_state"].replace("{state}", state) for state in JobState)
    numbers = sql["of_batch"].replace("{states}", states) if a_batch else sql["of_queue"]
    return sql["page"].replace("{numbers}", numbers)


def _conditions(query: Query) -> dict[str, Any]:
    """The values of a query's conditions, by the names of the conditions in the SQL file."""
    given: dict[str, Any] = {name: getattr(query, name) for name in (*_WAYS_IN, "due_before", "valid_before")}
    given["before" if query.order is Order.NEWEST else "after"] = query.after
    if query.outcomes is not None:
        given["outcomes"] = orjson.dumps(sorted(query.outcomes)).decode()
    if query.states is not None:
        states = sorted(state.value for state in query.states)
        given |= {"state": states[0]} if len(states) == 1 else {"states": orjson.dumps(states).decode()}
    return {
        name: to_micros(value) if isinstance(value, datetime) else value
        for name, value in given.items()
        if value is not None
    }


def _way_in(query: Query, given: Mapping[str, Any]) -> tuple[str, str]:
    """The name of the first part of the statement, and the condition that this part already checks ('' for none)."""
    for name, way_in in _WAYS_IN.items():
        if name in given:
            return way_in, name
    if "valid_before" in given and query.states == _QUEUED:
        return "by_validity", "state"
    return ("by_id" if query.states is None else "by_state"), ""
