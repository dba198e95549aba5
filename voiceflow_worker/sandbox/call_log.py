"""The log of calls that ended, as the export tells it: one row for each leg (8x8 voice log export reference)."""

from __future__ import annotations

import csv
import io
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from voiceflow_worker.model.actions import Action
from voiceflow_worker.model.status import SessionStatus
from voiceflow_worker.model.values import is_object
from voiceflow_worker.sandbox.call import Call
from voiceflow_worker.sandbox.export_orders import RowOrder
from voiceflow_worker.sandbox.orders import OrderBook

COLUMNS: tuple[str, ...] = (
    "SessionId", "CallId", "SubAccountId", "Direction", "SourceEndpoint", "DestinationEndpoint", "InitiatedAt",
    "ConnectedAt", "DisconnectedAt", "DurationInSec", "SessionStatus", "CallStatus", "SipStatus", "TotalPriceOfCall",
)  # fmt: skip
_SIP = {SessionStatus.BUSY: "486", SessionStatus.NO_ANSWER: "480", SessionStatus.CANCELED: "487"}
_BRIDGING = timedelta(seconds=3)
_SHOWN_DIGITS = 6


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """One row; `dialled_at` is of its session, `known_at` when the log has it, in seconds since the epoch."""

    sub_account: str
    dialled_at: datetime
    known_at: float
    cells: Mapping[str, str]


class CallLog:
    """All rows, in the order in which their calls ended. `speed` is the sandbox's."""

    def __init__(self, orders: OrderBook[RowOrder], *, speed: float) -> None:
        self._orders = orders
        self._speed = speed
        self._rows: list[LoggedRow] = []

    def add(self, call: Call) -> None:
        """A call has ended. One that was never dialled has no row."""
        dialled = call.dialled_at
        if dialled is None or not call.entry.rang:
            return
        order = self._orders.take(call.request.destination) or RowOrder()
        if order.never:
            return
        known_at = time.time() + order.late_seconds / self._speed
        for cells in _legs(call, dialled):
            told = {**cells, **{name: _masked(cells[name]) for name in _NUMBERS}} if order.masked else cells
            self._rows.append(LoggedRow(call.sub_account, dialled, known_at, told))

    def rows(self, sub_account: str, *, since: datetime, until: datetime) -> list[Mapping[str, str]]:
        """What the log has by now of calls that were dialled in this range."""
        now = time.time()
        return [
            row.cells
            for row in self._rows
            if row.sub_account == sub_account and row.known_at <= now and since <= row.dialled_at <= until
        ]

    def clear(self) -> None:
        """Begin a new log."""
        self._rows.clear()


def as_csv(rows: Sequence[Mapping[str, str]]) -> bytes:
    """Rows as a file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


_NUMBERS = ("SourceEndpoint", "DestinationEndpoint")


def _legs(call: Call, dialled: datetime) -> list[dict[str, str]]:
    """The first leg; and the second party's, if there is one and somebody answered."""
    plan = call.plan
    taken = dialled + timedelta(seconds=plan.ring_seconds)
    ended = taken + timedelta(seconds=plan.talk_seconds)
    times = _Times(dialled, taken, ended)
    legs = [_row(call, call.request.source, call.request.destination, times)]
    second = [_params(entry) for entry in call.request.actions if _is_call(entry)][1:2]
    if second and plan.is_answered:
        (params,) = second
        times = _Times(taken, min(taken + _BRIDGING, ended), ended)
        legs.append(_row(call, _text(params.get("source")), _text(params.get("destination")), times))
    return legs


@dataclass(frozen=True, slots=True)
class _Times:
    dialled: datetime
    taken: datetime
    ended: datetime


def _row(call: Call, source: str | None, destination: str | None, times: _Times) -> dict[str, str]:
    plan = call.plan
    return {
        "SessionId": call.session_id,
        "CallId": str(uuid.uuid4()),
        "SubAccountId": call.sub_account,
        "Direction": "OUTBOUND",
        "SourceEndpoint": (source or "").removeprefix("+"),
        "DestinationEndpoint": (destination or "").removeprefix("+"),
        "InitiatedAt": _time(times.dialled),
        "ConnectedAt": _time(times.taken) if plan.is_answered else "",
        "DisconnectedAt": _time(times.ended),
        "DurationInSec": str(round((times.ended - times.taken).total_seconds())) if plan.is_answered else "0",
        "SessionStatus": plan.status.value,
        "CallStatus": "COMPLETED" if plan.is_answered else plan.status.value,
        "SipStatus": "200" if plan.is_answered else _SIP.get(plan.status, "503"),
        "TotalPriceOfCall": "0.0000",
    }


def _is_call(entry: object) -> bool:
    return is_object(entry) and entry.get("action") == Action.MAKE_CALL


def _params(entry: object) -> Mapping[str, object]:
    params = entry.get("params") if is_object(entry) else None
    return params if is_object(params) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _masked(number: str) -> str:
    return number[:_SHOWN_DIGITS] + "*" * len(number[_SHOWN_DIGITS:])


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
