"""Conversion of outcomes to the JSON values that stores keep, and back. Default values are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Any

from voiceflow_worker.model.copying import maker
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import SessionStatus

_STATUSES: dict[str | None, SessionStatus | None] = {None: None, **{each.value: each for each in SessionStatus}}
_LEG_FIELDS = tuple(field.name for field in fields(CallLeg))
_LEG_TIMES = ("initiated_at", "connected_at", "disconnected_at")


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON values; times are ISO 8601."""
    record: dict[str, Any] = {
        "status": outcome.status.value if outcome.status is not None else None,
        "status_text": outcome.status_text,
        "code": outcome.code,
        "message": outcome.message,
        "session_id": outcome.session_id,
        "started_at": _written(outcome.started_at),
        "ended_at": _written(outcome.ended_at),
        "seconds": outcome.seconds,
        "last_action": outcome.last_action,
        "legs": [_leg_record(leg) for leg in outcome.legs] or None,
        "is_partial": outcome.is_partial or None,
    }
    return {name: value for name, value in record.items() if value is not None}


def _leg_record(leg: CallLeg) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name in _LEG_FIELDS:
        value = getattr(leg, name)
        if value is not None:
            record[name] = _written(value) if name in _LEG_TIMES else value
    return record


def _written(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


_leg = maker(CallLeg, dict.fromkeys(_LEG_TIMES, datetime.fromisoformat))
outcome_from: Callable[..., Outcome] = maker(
    Outcome,
    {
        "status": lambda text: _STATUSES[text] if text in _STATUSES else SessionStatus(text),
        "legs": lambda records: tuple([_leg(record) for record in records]),
        "started_at": datetime.fromisoformat,
        "ended_at": datetime.fromisoformat,
    },
    defaults={"status": None},
)
"""The outcome of a record. Raises TypeError for a field that this version does not know."""
