"""The price of a call, from a row of 8x8's log (voice log export reference)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The price of a session (all its legs together), and the seconds that are billed for it.

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
    return _charge(record["price"], record.get("currency"), record.get("billed_seconds"))


@lru_cache(maxsize=4096, typed=True)  # calls of the same length have the same price
def _charge(price: str, currency: str | None, billed_seconds: float | None) -> Charge:
    return Charge(price=Decimal(price), currency=currency, billed_seconds=billed_seconds)
