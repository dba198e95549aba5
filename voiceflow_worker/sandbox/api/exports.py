"""Exports of the log of calls (8x8 voice log export reference)."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from voiceflow_worker.sandbox.calls.call_log import LogRows, as_csv
from voiceflow_worker.sandbox.orders.export_orders import ExportOrder
from voiceflow_worker.sandbox.orders.orders import OrderBook

_KEPT = timedelta(days=30)
Row = Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class Export:
    """One export, with the rows that the log had when the export began."""

    sub_account: str
    since: datetime
    until: datetime
    order: ExportOrder
    rows: Sequence[Row]
    expires: datetime
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    signature: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    polls: int = 0
    downloads: int = 0
    is_cancelled: bool = False

    @property
    def status(self) -> str:
        """The status of the export, which depends on the number of polls so far."""
        if self.is_cancelled:
            return "cancelled"
        if self.polls <= 1:
            return "running"
        return self.order.status or ("succeeded" if self.rows else "empty")

    def as_json(self) -> dict[str, object]:
        """Return the export as JSON."""
        return {
            "job_id": self.job_id,
            "sub_account": self.sub_account,
            "from": self.since.isoformat(),
            "to": self.until.isoformat(),
            "rows": len(self.rows),
            "status": self.status,
            "polls": self.polls,
            "downloads": self.downloads,
        }


class Exports:
    """All exports by their ids. `now` returns the sandbox's time."""

    def __init__(self, log: LogRows, *, now: Callable[[], datetime]) -> None:
        self._log = log
        self._now = now
        self._exports: dict[str, Export] = {}
        self._orders: OrderBook[ExportOrder] = OrderBook()

    def add(self, order: ExportOrder) -> None:
        """Add an order."""
        self._orders.add(order)

    def next_order(self) -> ExportOrder:
        """Return the order for the next export, and count it as used once."""
        return self._orders.take(None) or ExportOrder()

    def begin(
        self,
        sub_account: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 0,
        order: ExportOrder,
    ) -> Export:
        """Begin an export, by default of the last seven days. Raises ValueError for an invalid range."""
        now = self._now()
        since, until = since or now - timedelta(days=7), until or now
        if since >= until:
            raise ValueError("'from' should be before 'to'")
        rows = self._log.rows(sub_account, since=since, until=until)
        made = Export(
            sub_account=sub_account,
            since=since,
            until=until,
            order=order,
            rows=rows[:limit] if limit else rows,
            expires=now + _KEPT,
        )
        self._exports[made.job_id] = made
        return made

    def find(self, sub_account: str, job_id: str) -> Export | None:
        """Return the export of a sub-account with this id, or None."""
        found = self._exports.get(job_id)
        return found if found is not None and found.sub_account == sub_account else None

    def file(self, job_id: str, signature: str | None) -> bytes | None:
        """Return the file of an export, or None without the right signature."""
        found = self._exports.get(job_id)
        if found is None or signature != found.signature:
            return None
        found.downloads += 1
        return as_csv(found.rows)

    def as_json(self) -> list[dict[str, object]]:
        """Return all exports as JSON, oldest first."""
        return [export.as_json() for export in self._exports.values()]

    def clear(self) -> None:
        """Delete all exports and orders."""
        self._exports.clear()
        self._orders.clear()
