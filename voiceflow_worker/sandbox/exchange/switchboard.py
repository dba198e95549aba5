"""Incoming calls to the numbers of the account. Its receiver is asked for their actions."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from voiceflow_worker.sandbox.calls.call import Call, CallRequest
from voiceflow_worker.sandbox.calls.inbound import InboundEntry, InboundOrder
from voiceflow_worker.sandbox.calls.outcomes import Outcomes
from voiceflow_worker.sandbox.events.account import Account
from voiceflow_worker.sandbox.exchange.exchange import Exchange
from voiceflow_worker.sandbox.orders.event_orders import EventKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Switchboard:
    """The maker of ordered incoming calls, with a list of them."""

    account: Account
    outcomes: Outcomes
    exchange: Exchange
    entries: list[InboundEntry] = field(default_factory=list[InboundEntry])

    def call(self, order: InboundOrder) -> InboundEntry:
        """Start an incoming call now. Its entry is updated as the call goes on.

        Raises ValueError if nobody answers: the number is not the account's, or it has no webhook for call actions.
        """
        sub_account = self.sub_account_of(order)
        entry = InboundEntry(
            at=time.time(), source=order.source, destination=order.destination, sub_account=sub_account
        )
        call = Call(
            request=CallRequest(source=order.source, destination=order.destination),
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
        """The sub-account of the call. Raises ValueError as `call` does."""
        if not self.account.owns(order.destination):
            raise ValueError(f"{order.destination} is not one of the account's numbers")
        sub_account = order.sub_account or self.account.first_with(EventKind.VCA)
        if sub_account is None or self.account.hook(sub_account, EventKind.VCA) is None:
            raise ValueError("no webhook says what to do with the call: register a VCA webhook, or give --webhook")
        return sub_account
