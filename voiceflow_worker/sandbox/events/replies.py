"""Replies to call action events, checked as 8x8 checks them (8x8 call action handling guide)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from voiceflow_worker.model.flows.callflow import find_problems
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.sandbox.events.account import SandboxAccount
from voiceflow_worker.sandbox.events.answers import against_account
from voiceflow_worker.sandbox.events.delivery import DeliveryEntry

_INVALID_FLOW = -2003
_SOURCE_NOT_ALLOWED = -2008
_API_SOURCE_NOT_ALLOWED = -1014


@dataclass(frozen=True, slots=True)
class NextActions:
    """The next actions of a call. `client_action_id` is None if it is missing in the reply."""

    actions: Sequence[object]
    client_action_id: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The error of an invalid reply. It ends the session, and the summary of the session names it."""

    code: int
    message: str


def judged_reply(answer: DeliveryEntry | None, account: SandboxAccount) -> NextActions | Refusal:
    """Return the actions of a reply, or the error of an invalid one. `answer` is None if the event was not sent."""
    if answer is None:
        return Refusal(_INVALID_FLOW, "the call action event got no answer")
    if answer.status is None:
        return Refusal(_INVALID_FLOW, f"the call action event got no answer: {answer.error}")
    if answer.status != 200:
        return Refusal(_INVALID_FLOW, f"the call action event was answered with HTTP status {answer.status}")
    try:
        body: object = orjson.loads(answer.answer or b"")
    except orjson.JSONDecodeError:
        return Refusal(_INVALID_FLOW, "the answer to the call action event is not JSON")
    problem = next((found for found in find_problems(body, reply=True) if found.is_error), None)
    if problem is not None:
        return Refusal(_INVALID_FLOW, f"the answer to the call action event is invalid: {problem}")
    flow, action_id = _read(body)
    if not flow:
        return Refusal(_INVALID_FLOW, "the answer to the call action event has no actions")
    for found in against_account(flow, account):
        code = _SOURCE_NOT_ALLOWED if found.code == _API_SOURCE_NOT_ALLOWED else _INVALID_FLOW
        return Refusal(code, found.message)
    return NextActions(flow, action_id)


def _read(body: object) -> tuple[Sequence[object], str | None]:
    given: Mapping[str, object] = body if is_object(body) else {}
    flow, action_id = given.get("callflow"), given.get("clientActionId")
    return flow if is_list(flow) else (), action_id if isinstance(action_id, str) else None
