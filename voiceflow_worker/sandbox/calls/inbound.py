"""Incoming calls to the numbers of the account: orders and results."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import field_validator

from voiceflow_worker.model.numbers import phone
from voiceflow_worker.sandbox.calls.ledger import CallEntry
from voiceflow_worker.sandbox.orders.orders import Conduct


class InboundOrder(Conduct):
    """An order for a call from `source` to `destination`, which is a number of the account.

    The actions come from the webhook for call actions of `sub_account`. The default is the first sub-account that
    has such a webhook.
    """

    source: str
    destination: str
    sub_account: str | None = None

    @field_validator("source", "destination")
    @classmethod
    def _is_a_number(cls, value: str) -> str:
        if not phone.is_e164(value):
            raise ValueError(f"{value[:40]!r} is not a phone number in E.164 form, such as +6587654321")
        return phone.normalise(value)


@dataclass(slots=True, kw_only=True)
class InboundEntry(CallEntry):
    """The entry of one incoming call."""

    rang: bool = True
