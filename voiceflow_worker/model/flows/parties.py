"""The parties of a call: every number that a call flow makes ring."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from voiceflow_worker.model.flows.actions import Action, read_actions
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.numbers import phone

if TYPE_CHECKING:
    from collections.abc import Mapping

_CALLS = f'"{Action.MAKE_CALL.value}"'


def destinations(body: Mapping[str, object]) -> tuple[str, ...]:
    """The numbers that a body calls, in order, as their numbering plans write them; malformed ones are left out."""
    found: list[str] = []
    for action, params in read_actions(body):
        number = params.get("destination")
        if action is Action.MAKE_CALL and isinstance(number, str) and phone.is_e164(number):
            found.append(phone.usual_form(phone.normalise(number)))
    return tuple(found)


def second_parties(body: str) -> tuple[str, ...]:
    """The numbers that a stored body bridges to its first call.

    The body is parsed only if its text has `"makeCall"` at least twice. The usual body, with one call, has it once.
    """
    if body.count(_CALLS) < 2:
        return ()
    try:
        read: object = json.loads(body)
    except ValueError:  # not a body of ours; 8x8 would refuse it
        return ()
    called = list(destinations(read)) if is_object(read) else []
    return tuple(number for number in dict.fromkeys(called[1:]) if number != called[0])
