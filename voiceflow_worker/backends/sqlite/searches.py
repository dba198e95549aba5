"""Statements for queries: the narrowest index, then only the remaining conditions."""

from __future__ import annotations

from typing import Any

import orjson

from voiceflow_worker.backends.instant import to_micros
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.core.ports import Query
from voiceflow_worker.model.jobs.job import JobState

_QUEUED = frozenset({JobState.QUEUED})


def search(query: Query) -> tuple[str, dict[str, Any]]:
    """The statement and its bindings; it answers with one JSON list of row numbers, in the order asked for."""
    sql = statements("finding")
    bindings: dict[str, Any] = {"queue": query.queue, "limit": -1 if query.limit is None else max(query.limit, 0)}
    way_in, conditions = _way_in(query)
    _bind(query, bindings)
    pieces = [sql[way_in], *(sql[f"and_{name}"] for name in conditions), sql[query.order.value]]
    return sql["as_one_row"].replace("{search}", "\n".join(pieces)), bindings


def _way_in(query: Query) -> tuple[str, list[str]]:
    left = {
        "unique_key": query.unique_key is not None,
        "destination": query.destination is not None,
        "batch_id": query.batch_id is not None,
        "state": query.states is not None and len(query.states) == 1,
        "states": query.states is not None and len(query.states) != 1,
        "due_before": query.due_before is not None,
        "valid_before": query.valid_before is not None,
        "after": query.after is not None,
    }
    way_in, narrows = "by_id", ""
    if left["unique_key"]:
        way_in, narrows = "by_key", "unique_key"
    elif left["destination"]:
        way_in, narrows = "by_destination", "destination"
    elif left["batch_id"]:
        way_in, narrows = "by_batch", "batch_id"
    elif left["valid_before"] and query.states == _QUEUED:
        way_in, narrows = "by_validity", "state"
    elif left["state"] or left["states"]:
        way_in = "by_state"
    return way_in, [name for name, is_left in left.items() if is_left and name != narrows]


def _bind(query: Query, bindings: dict[str, Any]) -> None:
    if query.states is not None:
        if len(query.states) == 1:
            bindings["state"] = next(iter(query.states)).value
        else:
            bindings["states"] = orjson.dumps(sorted(state.value for state in query.states)).decode()
    for name in ("unique_key", "destination", "batch_id", "after"):
        value = getattr(query, name)
        if value is not None:
            bindings[name] = value
    if query.due_before is not None:
        bindings["due_before"] = to_micros(query.due_before)
    if query.valid_before is not None:
        bindings["valid_before"] = to_micros(query.valid_before)
