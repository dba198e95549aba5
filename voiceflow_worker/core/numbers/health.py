"""Numbers of the account that 8x8 says should not be used for new calls (webhook VNU)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.records.call_json import rfc3339
from voiceflow_worker.model.reports.events import NumberUpdate
from voiceflow_worker.model.text.moment import in_words

NAMESPACE = "number-health"
KEPT = timedelta(days=30)
"""A number of which nothing is heard for so long is not spoken of any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OddNumber:
    """One number that is not Active: Unhealthy, Expiring or Inactive, in 8x8's spelling."""

    number: str
    status: str
    since: datetime

    @property
    def is_usable(self) -> bool:
        """Whether calls may show it for now."""
        return self.status.casefold() == "expiring"

    def in_words(self) -> str:
        """The number and its state, as a clause."""
        return f"{self.number} is {self.status} since {in_words(self.since)}"

    def as_json(self) -> dict[str, object]:
        """The number for scripts."""
        return {"number": self.number, "status": self.status, "since": rfc3339(self.since)}


class NumberHealth:
    """Keeps what 8x8 tells of the account's numbers, until it says that they are Active again."""

    def __init__(self, store: Store) -> None:
        self._records = store.records
        self._clock = store.clock

    async def note(self, update: NumberUpdate) -> None:
        """Take an event. Raises StoreUnavailableError."""
        now = self._clock.now()
        odd: dict[str, str] = {}
        active: dict[str, None] = {}
        for each in update.numbers:
            number, status = each.msisdn, each.operational_status
            if number is None or status is None:
                continue
            if status.casefold() == "active":
                active[number] = None
            else:
                odd[number] = json.dumps({"status": status, "since": (each.updated_at or now).isoformat()})
        if odd:
            await self._records.put(NAMESPACE, odd, expires_at=now + KEPT, now=now)
        if active:
            await self._records.delete(NAMESPACE, active)

    async def standing(self) -> list[OddNumber]:
        """The numbers that are not Active, as far as anybody told."""
        found = await self._records.scan(NAMESPACE, now=self._clock.now())
        return [odd for number, text in found if (odd := _read(number, text)) is not None]


def _read(number: str, text: str) -> OddNumber | None:
    """A record; None for one that cannot be read. What a newer version added is not looked at: it is only shown."""
    try:
        fields: Mapping[str, str] = json.loads(text)
        return OddNumber(number=number, status=fields["status"], since=datetime.fromisoformat(fields["since"]))
    except (ValueError, TypeError, KeyError):
        return None
