"""What the body of a call says of its validity and its numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from voiceflow_worker.errors import CallFlowError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import Action, read_actions
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.numbers import phone

VALIDITY_EXPIRED = -1015
"""The 8x8 code for a `validUntil` that has passed."""
_VALID_UNTIL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z", re.ASCII)


def read_valid_until(value: object) -> datetime | None:
    """Return the time in a `validUntil`, as an aware datetime in UTC; None if it is not a valid time."""
    if not isinstance(value, str) or _VALID_UNTIL.fullmatch(value) is None:
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:  # the 30th of February, 25 o'clock
        return None


def write_valid_until(moment: datetime) -> str:
    """Return the time as 8x8 documents it, rounded down to the millisecond. Raises CallFlowError without a zone."""
    if not isinstance(cast("object", moment), datetime) or moment.tzinfo is None:
        message = f"valid_until needs a time zone: {moment!s:.40}; use datetime.now(UTC) + … or an aware datetime"
        raise CallFlowError([Finding(message=message, path="$.validUntil")])
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


_CALLS = f'"{Action.MAKE_CALL.value}"'


def destinations(body: Mapping[str, object]) -> tuple[str, ...]:
    """Return the numbers that a body calls, in order, as their plans write them. Malformed ones are left out."""
    found: list[str] = []
    for action, params in read_actions(body):
        number = params.get("destination")
        if action is Action.MAKE_CALL and isinstance(number, str) and phone.is_e164(number):
            found.append(phone.canonical_number(phone.normalise(number)))
    return tuple(found)


def second_parties(body: str) -> tuple[str, ...]:
    """Return the numbers that a stored body bridges to its first call."""
    if body.count(_CALLS) < 2:
        return ()
    try:
        read: object = json.loads(body)
    except ValueError:  # not a body of ours; 8x8 would refuse it
        return ()
    called = list(destinations(read)) if is_object(read) else []
    return tuple(number for number in dict.fromkeys(called[1:]) if number != called[0])
