"""Events about calls, sent to the webhooks of the account, and the replies. Orders may delay, repeat or drop events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import orjson

from voiceflow_worker.model.flows.callflow import find_problems
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.reports.events import ActionStatus
from voiceflow_worker.sandbox.account import SandboxAccount
from voiceflow_worker.sandbox.answers import against_account
from voiceflow_worker.sandbox.call import Call, SessionLeg
from voiceflow_worker.sandbox.call_events import (
    Activity,
    action_event,
    recording_event,
    session_summary,
    status_event,
)
from voiceflow_worker.sandbox.delivery import Delivery, DeliveryEntry, WebhookTarget
from voiceflow_worker.sandbox.orders import AS_USUAL, EventKind, EventOrder, OrderBook, RecordingOrder
from voiceflow_worker.sandbox.wire import LegStatus

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


Worded: TypeAlias = Callable[[], Mapping[str, object]]
"""A function that makes an event. It is called only for events that are sent, because making an event is slow."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """An event to send, with the order for its delivery."""

    hook: WebhookTarget
    event: Mapping[str, object]
    order: EventOrder


@dataclass(frozen=True, slots=True)
class Asked:
    """The result of a question to the receiver: its last delivery (None if it was not sent), and the caller's wait."""

    answer: DeliveryEntry | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMaker:
    """The maker of events. `delivery` sends them.

    The answer to a call action event may take `within` seconds, whatever the speed. With `statuses`, call status events
    also go to the default webhook.
    """

    account: SandboxAccount
    delivery: Delivery
    orders: OrderBook[EventOrder]
    activity: Activity
    speed: float
    within: float
    statuses: bool

    # -- the next step -------------------------------------------------------------------------------------------------

    def can_ask(self, call: Call) -> bool:
        """Return whether a webhook for call actions is registered."""
        return self.account.hook(call.sub_account, EventKind.VCA) is not None

    async def ask(self, call: Call, status: ActionStatus, *, dtmf: str | None, at: float, sip_code: int = 200) -> Asked:
        """Ask the receiver for the next step, and wait for the answer."""
        sent = self._of_call(
            call, EventKind.VCA, partial(action_event, call, status, dtmf=dtmf, at=at, sip_code=sip_code)
        )
        if sent is None:
            await asyncio.sleep(self.within / self.speed)
            return Asked(None, self.within)
        delay = sent.order.delay_seconds
        if delay:
            await asyncio.sleep(delay / self.speed)
        self._repeat(call, sent)
        answer = await self.delivery.ask(sent.hook, sent.event, within=self.within, retries=sent.order.retries or 0)
        return Asked(answer, delay + answer.seconds)

    # -- news ----------------------------------------------------------------------------------------------------------

    def tells_statuses(self, call: Call) -> bool:
        """Return whether the states of the call's legs are reported."""
        hook = self.account.hook(call.sub_account, EventKind.VCS)
        if hook is None:
            return False
        wanted = None if call.script is None else call.script.statuses
        if wanted is not None:
            return wanted
        return self.statuses or hook is not self.account.hook_for_all

    def status(self, call: Call, leg: SessionLeg, state: LegStatus, *, at: float) -> None:
        """Report a new state of a leg."""
        if self.tells_statuses(call):
            self._tell(call, EventKind.VCS, partial(status_event, call, leg, state, at=at))

    def recording(self, call: Call, recording: RecordingOrder) -> None:
        """Report a recording that is ready."""
        self._tell(call, EventKind.VRU, partial(recording_event, call, recording))

    def summary(self, call: Call) -> None:
        """Report the end of a session."""
        script = call.summary_script
        sent = None
        if script is None or not script.drop:
            sent = self._of_call(call, EventKind.VSS, partial(session_summary, call))
        if sent is None:
            self._summed_up(call)
            return
        retries = script.retries if script is not None and sent.order.retries is None else sent.order.retries
        copies = 1 if script is None else 1 + script.duplicates
        self._later(sent.order.delay_seconds, partial(self._send_summary, call, sent, copies, retries))

    def _send_summary(self, call: Call, sent: _Sent, copies: int, retries: int | None) -> None:
        self._repeat(call, sent)
        self.delivery.send(sent.hook, sent.event, copies=copies, retries=retries, then=partial(self._summed_up, call))

    def _summed_up(self, call: Call) -> None:
        waiting, call.after_summary = call.after_summary, ()
        for send in waiting:
            send()

    # -- delivery ------------------------------------------------------------------------------------------------------

    def _tell(self, call: Call, kind: EventKind, worded: Worded) -> None:
        sent = self._of_call(call, kind, worded)
        if sent is not None:
            self._later(sent.order.delay_seconds, partial(self._send, call, sent))

    def _send(self, call: Call, sent: _Sent) -> None:
        self._repeat(call, sent)
        self.delivery.send(sent.hook, sent.event, retries=sent.order.retries)

    def _of_call(self, call: Call, kind: EventKind, worded: Worded) -> _Sent | None:
        """Return the event with its order, or None if no webhook is registered or an order drops the event."""
        hook = self.account.hook(call.sub_account, kind)
        if hook is None:
            return None
        order = self.orders.take(call.request.destination, kind) or AS_USUAL[kind]
        return None if order.drop else _Sent(hook, worded(), order)

    def _repeat(self, call: Call, sent: _Sent) -> None:
        """Schedule the further copies of an event, as the order of the event demands."""
        order = sent.order
        if not order.duplicates:
            return
        send = partial(self.delivery.send, sent.hook, sent.event, copies=order.duplicates, retries=0)
        if order.duplicate_after != "VSS":
            self._later(order.duplicate_after, send)
        else:
            call.after_summary += (send,)

    def _later(self, seconds: float, step: partial[None]) -> None:
        if seconds:
            self.activity.after(seconds / self.speed, step)
        else:
            step()
