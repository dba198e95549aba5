"""The log of ended calls, which the export returns. Each leg has a row (8x8 voice log export reference)."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from voiceflow_worker.model.flows.actions import read_action
from voiceflow_worker.model.numbers import phone
from voiceflow_worker.sandbox.calls.call import Call, SessionLeg
from voiceflow_worker.sandbox.calls.call_events import sip_code_of, wire_time
from voiceflow_worker.sandbox.calls.outcomes import text
from voiceflow_worker.sandbox.orders import OrderBook, RowOrder

COLUMNS: tuple[str, ...] = (
    "SessionId", "CallId", "AccountId", "SubAccountId", "Direction", "SourceCountryCode", "SourceCountry",
    "SourceOperator", "SourceMCC", "SourceMNC", "SourceEndpoint", "DestinationCountryCode", "DestinationCountry",
    "DestinationOperator", "DestinationMCC", "DestinationMNC", "DestinationEndpoint", "InitiatedAt", "ConnectedAt",
    "DisconnectedAt", "DurationInSec", "Product", "BillingUnit", "BillingIncrement", "BillableDurationInSec",
    "UnitPrice", "UnitPriceCurrency", "TotalPriceOfCall", "CallType", "SipStatus", "SessionStatus", "CallStatus",
    "TTSLength", "MOS", "Content",
)  # fmt: skip
_ACCOUNT = "sandbox"
_MINUTE = 60
PRICE_OF_A_MINUTE = Decimal("0.0400")
"""The price of each minute of a leg. A part of a minute costs as much as a whole minute."""
CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """One row. `dialled_at` is when its session was dialled. `known_at` is when the log gets the row (epoch time)."""

    sub_account: str
    dialled_at: datetime
    known_at: float
    cells: Mapping[str, str]


class LogRows:
    """All rows of the log, in the order in which their calls ended."""

    def __init__(self, orders: OrderBook[RowOrder], *, speed: float) -> None:
        self._orders = orders
        self._speed = speed
        self._rows: list[LoggedRow] = []

    def add(self, call: Call) -> None:
        """Add the rows of an ended call, and their price to the ledger. A call that never rang has no rows."""
        dialled = call.dialled_at
        if dialled is None or not call.entry.rang:
            return
        order = self._orders.take(call.request.destination) or RowOrder()
        if order.never:
            return
        known_at = time.time() + order.late_seconds / self._speed
        rows = [_row(call, leg, dialled) for leg in call.legs]
        call.entry.price = str(sum(Decimal(cells["TotalPriceOfCall"]) for cells in rows))
        for cells in rows:
            self._rows.append(LoggedRow(call.sub_account, dialled, known_at, cells))

    def rows(self, sub_account: str, *, since: datetime, until: datetime) -> list[Mapping[str, str]]:
        """Return the rows that are in the log now, for calls that were dialled in this range."""
        now = time.time()
        return [
            row.cells
            for row in self._rows
            if row.sub_account == sub_account and row.known_at <= now and since <= row.dialled_at <= until
        ]

    def clear(self) -> None:
        """Delete all rows."""
        self._rows.clear()


def as_csv(rows: Sequence[Mapping[str, str]]) -> bytes:
    """Return the rows as a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _row(call: Call, leg: SessionLeg, dialled: datetime) -> dict[str, str]:
    def at(seconds: float) -> str:
        return wire_time(dialled + timedelta(seconds=seconds))

    connected = leg.connected
    seconds = 0 if connected is None else round(leg.ended - connected)
    minutes = -(-seconds // _MINUTE)
    source, destination = ((number or "").removeprefix("+") for number in (leg.source, leg.destination))
    content = _spoken(call) if leg is call.first_leg else ""
    return {
        "SessionId": call.session_id,
        "CallId": leg.call_id,
        "AccountId": _ACCOUNT,
        "SubAccountId": call.sub_account,
        "Direction": leg.direction.value,
        **_place("Source", source),
        "SourceEndpoint": source,
        **_place("Destination", destination),
        "DestinationEndpoint": destination,
        "InitiatedAt": at(leg.dialled),
        "ConnectedAt": "" if connected is None else at(connected),
        "DisconnectedAt": at(leg.ended),
        "DurationInSec": str(seconds),
        "Product": "VOICE",
        "BillingUnit": "Minute",
        "BillingIncrement": f"{_MINUTE}+{_MINUTE}",
        "BillableDurationInSec": str(minutes * _MINUTE),
        "UnitPrice": str(PRICE_OF_A_MINUTE),
        "UnitPriceCurrency": CURRENCY,
        "TotalPriceOfCall": str(PRICE_OF_A_MINUTE * minutes),
        "CallType": "PSTN",
        "SipStatus": str(sip_code_of(leg.status)) if connected is None else "200",
        "SessionStatus": call.plan.status.value,
        "CallStatus": leg.status.value if connected is None else "COMPLETED",
        "TTSLength": str(len(content)),
        "MOS": "" if connected is None else str(call.plan.mos),
        "Content": content,
    }


def _place(side: str, number: str) -> dict[str, str]:
    country = (phone.country_of("+" + number) if phone.is_e164(number) else None) or ""
    return {f"{side}CountryCode": country, f"{side}Country": country}


def _spoken(call: Call) -> str:
    """Return the texts that the actions in the call's request speak."""
    spoken = [text(read_action(entry)[1], name) for entry in call.request.actions for name in ("text", "promptMessage")]
    return " ".join(each for each in spoken if each is not None)
