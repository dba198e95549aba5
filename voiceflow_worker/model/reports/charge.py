"""The price of a call, from a row of 8x8's log (voice log export reference)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The price of a session, all its legs together, and the seconds that are billed for it.

    `currency` is None only for a price of 0 without a currency.
    """

    price: Decimal
    currency: str | None = None
    billed_seconds: float | None = None


def charge_record(charge: Charge) -> dict[str, Any]:
    """The charge as JSON values that stores keep; the price is a text, which keeps every digit."""
    record: dict[str, Any] = {"price": str(charge.price)}
    if charge.currency is not None:
        record["currency"] = charge.currency
    if charge.billed_seconds is not None:
        record["billed_seconds"] = charge.billed_seconds
    return record


def charge_from(record: dict[str, Any]) -> Charge:
    """The charge of a record. Fields of a newer version are ignored: a charge is only displayed."""
    return Charge(
        price=Decimal(record["price"]), currency=record.get("currency"), billed_seconds=record.get("billed_seconds")
    )
