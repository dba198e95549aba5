"""Events about calls, sent to the webhooks of the account, and the replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from voiceflow_worker.model.flows.callflow import find_problems
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.sandbox.account import SandboxAccount
from voiceflow_worker.sandbox.answers import against_account
from voiceflow_worker.sandbox.call import Call
from voiceflow_worker.sandbox.call_events import action_event, session_summary
from voiceflow_worker.sandbox.delivery import Delivery, DeliveryEntry
from voiceflow_worker.sandbox.wire import HookType

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMaker:
    """The maker of events. `delivery` sends them.

    The answer to a call action event may take `within` seconds.
    """

    account: SandboxAccount
    delivery: Delivery
    within: float

    def can_ask(self, call: Call) -> bool:
        """Return whether a webhook for call actions is registered."""
        return self.account.hook(call.sub_account, HookType.VCA) is not None

    async def ask(self, call: Call, *, dtmf: str | None, at: float) -> DeliveryEntry | None:
        """Ask the receiver for the next step, and wait for the answer. Returns None if there is no webhook."""
        hook = self.account.hook(call.sub_account, HookType.VCA)
        if hook is None:
            return None
        return await self.delivery.ask(hook, action_event(call, dtmf=dtmf, at=at), within=self.within)

    def summary(self, call: Call) -> None:
        """Report the end of a session. The event is made only if somebody gets it: making one is slow."""
        script, hook = call.script, self.account.hook(call.sub_account, HookType.VSS)
        if hook is not None and not (script is not None and script.drop):
            self.delivery.send(hook, session_summary(call), copies=1 if script is None else 1 + script.duplicates)
