"""The backlog of a hook: the outcomes that it has read and not received yet, as records that survive a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Event, Store
from voiceflow_worker.core.ports.record_set import json_records

WAITING = "hook-waiting"
PARKED = "hook-parked"
KEPT_PARKED = timedelta(days=90)


@dataclass(slots=True, kw_only=True)
class PendingOutcome:
    """An outcome that a hook has not received yet.

    `failures` is the number of failed tries, and `error` the last failure. `due_at` is the time of the next try, or
    None to try now.
    """

    event: Event
    failures: int = 0
    first_failed_at: datetime | None = None
    due_at: datetime | None = None
    error: str = ""


class HookBacklog:
    """The records of one hook for one queue: outcomes that wait for delivery, and parked outcomes.

    Records that this version cannot read are left out, but stay in the store for newer versions. Every method raises
    StoreError.
    """

    def __init__(self, store: Store, *, hook: str, queue: str) -> None:
        self._prefix = f"{hook}/{queue}/"
        self._waiting = json_records(store, WAITING, PendingOutcome)
        self._parked = json_records(store, PARKED, PendingOutcome, keep_for=KEPT_PARKED)

    async def keep(self, entries: Sequence[PendingOutcome]) -> None:
        """Store outcomes that wait for delivery, in their present state."""
        await self._waiting.put(self._by_key(entries))

    async def waiting(self) -> list[PendingOutcome]:
        """All outcomes that wait, oldest first."""
        return await self._waiting.values(prefix=self._prefix)

    async def drop(self, entry: PendingOutcome) -> None:
        """Delete an outcome that was delivered."""
        await self._waiting.remove(self._by_key([entry]))

    async def park(self, entry: PendingOutcome) -> None:
        """Park an outcome that was given up."""
        await self._parked.put(self._by_key([entry]))
        await self.drop(entry)

    async def parked(self) -> list[PendingOutcome]:
        """All outcomes that were given up, oldest first."""
        return await self._parked.values(prefix=self._prefix)

    async def unpark(self, entries: Sequence[PendingOutcome]) -> None:
        """Make parked outcomes wait again, as if they were new."""
        await self.keep([PendingOutcome(event=entry.event) for entry in entries])
        await self._parked.remove(self._by_key(entries))

    def _by_key(self, entries: Sequence[PendingOutcome]) -> dict[str, PendingOutcome]:
        return {f"{self._prefix}{entry.event.sequence:020d}": entry for entry in entries}
