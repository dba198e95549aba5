"""Numbers of the account that should not be used for new calls, as 8x8 reports them (webhook VNU)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import json_records
from voiceflow_worker.model.reports.events import NumberUpdate
from voiceflow_worker.model.text.wording import in_words, rfc3339

NAMESPACE = "number-health"
KEPT = timedelta(days=30)
"""The time after which a number is no longer shown, if 8x8 has sent nothing more about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OddNumber:
    """One number that is not Active: Unhealthy, Expiring or Inactive, in 8x8's spelling."""

    number: str
    status: str
    since: datetime

    @property
    def is_usable(self) -> bool:
        """Whether calls may still show this number as their source."""
        return self.status.casefold() == "expiring"

    def in_words(self) -> str:
        """The number and its state, as a clause."""
        return f"{self.number} has been {self.status} since {in_words(self.since)}"

    def as_json(self) -> dict[str, object]:
        """The number as JSON, for scripts."""
        return {"number": self.number, "status": self.status, "since": rfc3339(self.since)}


class NumberHealth:
    """The numbers that 8x8 has reported as not Active, until it reports them as Active. Methods raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._numbers = json_records(
            store, NAMESPACE, OddNumber, key="number", keep_for=KEPT, unreadable=lambda _number, _error: None
        )

    async def note(self, update: NumberUpdate) -> None:
        """Store the phone numbers that an event reports as not Active, and remove those that it reports as Active."""
        odd: dict[str, OddNumber] = {}
        active: list[str] = []
        for each in update.numbers:
            number, status = each.msisdn, each.operational_status
            if number is None or status is None:
                continue
            if status.casefold() == "active":
                active.append(number)
            else:
                odd[number] = OddNumber(number=number, status=status, since=each.updated_at or self._clock.now())
        await self._numbers.put(odd)
        await self._numbers.remove(active)

    async def standing(self) -> list[OddNumber]:
        """The numbers that 8x8 has reported as not Active."""
        return await self._numbers.values()
