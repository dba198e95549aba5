"""The exchange, which dials accepted calls, connects incoming calls, runs them, and reports their ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from voiceflow_worker.model.flows.actions import read_action
from voiceflow_worker.model.reports.events import Direction
from voiceflow_worker.sandbox.calls.call import Call, FlowRequest, SessionLeg
from voiceflow_worker.sandbox.calls.call_events import Activity, LegStatus, session_seconds
from voiceflow_worker.sandbox.calls.call_log import LogRows
from voiceflow_worker.sandbox.calls.inbound import InboundEntry, InboundOrder
from voiceflow_worker.sandbox.calls.outcomes import Outcomes, too_late
from voiceflow_worker.sandbox.calls.speech import heard_of, is_interactive
from voiceflow_worker.sandbox.events.account import SandboxAccount
from voiceflow_worker.sandbox.exchange.conversation import Conversation, Stage
from voiceflow_worker.sandbox.orders.orders import EventKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The calls under way. `now` returns the sandbox's time.

    A call with a fixed plan needs only timers. A call with questions or a second party runs in its own task.
    """

    activity: Activity
    stage: Stage
    log: LogRows
    now: Callable[[], datetime]

    def place(self, call: Call) -> None:
        """Dial an accepted call, now or at the time in its plan."""
        if call.plan.dial_seconds > 0:
            self._after(call.plan.dial_seconds, partial(self._dial, call))
        else:
            self._dial(call)

    def put_through(self, call: Call) -> None:
        """Connect an incoming call, whose actions come from the account's receiver."""
        call.dialled_at = self.now()
        leg = SessionLeg(source=call.request.source, destination=call.request.destination, direction=Direction.INBOUND)
        call.legs.append(leg)
        self.stage.events.status(call, leg, LegStatus.RECEIVED, at=0.0)
        self._converse(call)

    def _dial(self, call: Call) -> None:
        valid_until = call.request.valid_until
        now = self.now()
        if valid_until is not None and now >= valid_until:
            call.plan = too_late(call.plan)
        else:
            call.dialled_at = now
            call.entry.rang = call.plan.rings
        plan = call.plan
        if call.entry.rang:
            converses = plan.is_answered and is_interactive(call.request.actions)
            self._ring(call, converses=converses)
            if converses:
                self._after(plan.ring_seconds, partial(self._converse, call))
                return
        self._after(plan.ring_seconds + plan.talk_seconds + plan.lag_seconds, partial(self._end_as_planned, call))

    def _ring(self, call: Call, *, converses: bool) -> None:
        """Ring the phone, and report the state of the leg. Without a conversation, also schedule the later states."""
        plan, request, events = call.plan, call.request, self.stage.events
        ended = plan.ring_seconds + plan.talk_seconds
        leg = SessionLeg(
            source=request.source,
            destination=request.destination,
            connected=plan.ring_seconds if plan.is_answered else None,
            ended=ended,
            status=plan.status,
        )
        call.legs.append(leg)
        leg.rings(call.entry)
        if not events.tells_statuses(call):
            return
        events.status(call, leg, LegStatus.INITIATED, at=0.0)
        if not converses:
            if leg.connected is not None:
                self._after(leg.connected, partial(events.status, call, leg, LegStatus.CONNECTED, at=leg.connected))
            self._after(ended, partial(events.status, call, leg, LegStatus.DISCONNECTED, at=ended))

    def _converse(self, call: Call) -> None:
        self.activity.run(self._conversation(call))

    async def _conversation(self, call: Call) -> None:
        await Conversation(call, self.stage).play()
        self._after(call.plan.lag_seconds, partial(self._end, call))

    def _end_as_planned(self, call: Call) -> None:
        """End a call that had no conversation."""
        actions = call.request.actions
        for leg in call.legs:
            leg.ends(ago=call.plan.lag_seconds / self.stage.speed)
        if call.plan.is_answered:
            call.entry.heard = tuple(heard_of(actions))
            call.last_action = read_action(actions[-1])[0] or call.last_action
        self._end(call)

    def _end(self, call: Call) -> None:
        call.entry.outcome, call.entry.seconds = call.plan.status.value, session_seconds(call)
        self.log.add(call)
        self.stage.events.summary(call)

    def _after(self, seconds: float, step: Callable[[], None]) -> None:
        self.activity.after(seconds / self.stage.speed, step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switchboard:
    """The switchboard, which makes and lists the incoming calls that orders ask for."""

    account: SandboxAccount
    outcomes: Outcomes
    exchange: Exchange
    entries: list[InboundEntry] = field(default_factory=list[InboundEntry])

    def call(self, order: InboundOrder) -> InboundEntry:
        """Start an incoming call now. Its entry is updated while the call goes on.

        Raises ValueError if the account does not own the number, or has no webhook for call actions.
        """
        sub_account = self.sub_account_of(order)
        entry = InboundEntry(
            at=time.time(), source=order.source, destination=order.destination, sub_account=sub_account
        )
        call = Call(
            request=FlowRequest(source=order.source, destination=order.destination),
            sub_account=sub_account,
            accepted_at=entry.at,
            plan=self.outcomes.inbound(order.source.lstrip("+")),
            entry=entry,
            script=order,
        )
        entry.session_id = call.session_id
        self.entries.append(entry)
        self.exchange.put_through(call)
        return entry

    def sub_account_of(self, order: InboundOrder) -> str:
        """Return the sub-account of the call. Raises ValueError if the account lacks the number or a VCA webhook."""
        if not self.account.owns(order.destination):
            raise ValueError(f"{order.destination} is not one of the account's numbers")
        sub_account = order.sub_account or self.account.first_with(EventKind.VCA)
        if sub_account is None or self.account.hook(sub_account, EventKind.VCA) is None:
            raise ValueError("no webhook answers the call: register a VCA webhook, or start the sandbox with --webhook")
        return sub_account
