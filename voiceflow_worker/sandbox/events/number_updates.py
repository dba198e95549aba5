"""Updates of the account's numbers (VNU). They come only from orders, because the sandbox changes no numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Self

from pydantic import AliasGenerator, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from voiceflow_worker.model.numbers import phone
from voiceflow_worker.sandbox.calls.call_events import NO_REFERENCE, event, wire_time
from voiceflow_worker.sandbox.events.account import SandboxAccount
from voiceflow_worker.sandbox.events.event_maker import EventMaker
from voiceflow_worker.sandbox.orders.event_orders import EventKind
from voiceflow_worker.sandbox.orders.orders import StrictModel, same_number


class UpdateKind(StrEnum):
    """The kind of an update: whether it lists all numbers, or only changed ones."""

    SNAPSHOT = "SNAPSHOT"
    """All numbers."""
    UPDATES = "UPDATES"
    """Only the changed numbers."""


class NumberChange(StrictModel):
    """One number in an update. `operational_status` is Active, Unhealthy, Expiring, Inactive or another text."""

    model_config = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_camel))

    msisdn: str
    operational_status: str = "Active"
    update_status: str = "UPDATED"
    reference_id: str = NO_REFERENCE
    rental_price: float = Field(default=0.0, ge=0)
    incoming_rate: float = Field(default=0.0, ge=0)
    billing_unit: str = "MINUTE"
    billing_currency: str = "USD"
    updated_at: datetime | None = None

    @field_validator("msisdn")
    @classmethod
    def _is_number(cls, number: str) -> str:
        if not phone.is_e164(number):
            raise ValueError(f"{number!r} is not a phone number: give 7 to 15 digits with the country code")
        return same_number(number)


class NumberUpdateOrder(StrictModel):
    """An order for an update that is sent now.

    The update goes to the VNU webhook of `sub_account`. The default is the first sub-account with such a webhook. A
    SNAPSHOT without `numbers` lists the account's numbers, all of them Active and unchanged.
    """

    kind: UpdateKind = UpdateKind.UPDATES
    sub_account: str | None = None
    numbers: tuple[NumberChange, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind is UpdateKind.UPDATES and not self.numbers:
            raise ValueError("UPDATES needs `numbers`: give the changed numbers")
        return self


@dataclass(frozen=True, slots=True)
class NumberUpdates:
    """The sender of updates."""

    account: SandboxAccount
    events: EventMaker

    def send(self, order: NumberUpdateOrder) -> None:
        """Send an update. Raises ValueError if no webhook is registered for number updates."""
        sub_account = self.sub_account_of(order)
        self.events.number_update(sub_account, partial(_update, order, sub_account, self.account))

    def sub_account_of(self, order: NumberUpdateOrder) -> str:
        """Return the sub-account of an update. Raises ValueError if no webhook is registered for number updates."""
        sub_account = order.sub_account or self.account.first_with(EventKind.VNU)
        if sub_account is None or self.account.hook(sub_account, EventKind.VNU) is None:
            raise ValueError("no webhook is registered for number updates: register a VNU webhook, or use --webhook")
        return sub_account


def _update(order: NumberUpdateOrder, sub_account: str, account: SandboxAccount) -> dict[str, object]:
    now = datetime.now(UTC)
    numbers = order.numbers or [NumberChange(msisdn=each, update_status="NO_CHANGE") for each in account.numbers]
    payload = {
        "subAccountId": sub_account,
        "totalNumbers": len(numbers),
        "updateEventType": order.kind.value,
        "virtualNumbers": [
            {
                **number.model_dump(by_alias=True, exclude={"updated_at"}),
                "msisdn": number.msisdn.removeprefix("+"),
                "countryCode": phone.country_of(number.msisdn),
                "updatedTimestamp": wire_time(number.updated_at or now),
            }
            for number in numbers
        ],
    }
    return event("VIRTUAL_NUMBER_UPDATE", "Update of virtual numbers", payload)
