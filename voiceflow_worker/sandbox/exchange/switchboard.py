"""Incoming calls to the numbers of the account. Its receiver is asked for their actions."""

from __future__ import annotations

import time

from voiceflow_worker.sandbox.calls.call import Call, CallRequest
from voiceflow_worker.sandbox.calls.inbound import InboundEntry, InboundOrder
from voiceflow_worker.sandbox.calls.outcomes import Outcomes
from voiceflow_worker.sandbox.events.account import Account
from voiceflow_worker.sandbox.exchange.exchange import Exchange
from voiceflow_worker.sandbox.orders.event_orders import EventKind


class Switchboard:
    """The maker of ordered incoming calls, with a list of them."""

    def __init__(self, account: Account, *, outcomes: Outcomes, exchange: Exchange) -> None:
        self._account = account
        self._outcomes = outcomes
        self._exchange = exchange
        self.entries: list[InboundEntry] = []

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
            plan=self._outcomes.inbound(order.source.lstrip("+")),
            entry=entry,
            script=order,
        )
        entry.session_id = call.session_id
        self.entries.append(entry)
        self._exchange.put_through(call)
        return entry

    def sub_account_of(self, order: InboundOrder) -> str:
        """The sub-account of the call. Raises ValueError as `call` does."""
        if not self._account.owns(order.destination):
            raise ValueError(f"{order.destination} is not one of the account's numbers")
        sub_account = order.sub_account or self._account.answering()
        if sub_account is None or self._account.hook(sub_account, EventKind.VCA) is None:
            raise ValueError("no webhook says what to do with the call: register a VCA webhook, or give --webhook")
        return sub_account

    def clear(self) -> None:
        """Forget all entries."""
        self.entries.clear()
