"""The SQL statements for queries. A statement reads the narrowest index, and checks the other conditions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from voiceflow_worker.backends.record import to_micros
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.core.ports import Order, Query
from voiceflow_worker.model.jobs.job import JobState

_QUEUED = frozenset({JobState.QUEUED})
_WAYS_IN = {"destination": "by_destination", "batch_id": "by_batch"}
"""The conditions that few jobs match, fewest first, each with the name of the statement that reads its index."""


def search(query: Query) -> tuple[str, dict[str, Any]]:
    """The statement for a query, and its bindings. The statement returns a JSON list of row numbers, in order."""
    sql = statements("finding")
    given = _conditions(query)
    way_in, met = _way_in(query, given)
    found = "\n".join([sql[way_in], *(sql[f"and_{name}"] for name in given if name != met)])
    if way_in == "by_batch" and query.order in {Order.CREATED, Order.NEWEST}:
        # The index has the order of ids only within a state, so SQLite merges the states. If each page of 200,000 calls
        # read the whole batch instead, all pages together would take 11 s.
        states = sorted(query.states or JobState)
        found = "\nUNION ALL\n".join(f"{found}\n{sql['and_in'].replace('{state}', state)}" for state in states)
    limit = -1 if query.limit is None else max(query.limit, 0)
    statement = sql["as_one_row"].replace("{search}", f"{found}\n{sql[query.order.value]}")
    return statement, {"queue": query.queue, "limit": limit, **given}


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
