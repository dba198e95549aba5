"""Turns: of several processes that could do the same thing, one does it at a time."""

from __future__ import annotations

from datetime import timedelta

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_worker_id

NAMESPACE = "turn"
LENGTH = timedelta(seconds=30)
"""How long a turn lasts that is not renewed: so long does nothing happen after its holder was killed."""
RENEW = timedelta(seconds=10)


class LeaderLease:
    """One process's claim to a turn of this name.

    A lease, and no lock: a holder that stands still for longer than `LENGTH` has lost it and does not know yet. What is
    done under a turn must bear being done twice.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._token = new_worker_id()
        self._taken_at: float | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it was taken or renewed so lately that nobody asks again yet."""
        taken = self._taken_at
        return taken is not None and self._store.clock.monotonic() - taken < RENEW.total_seconds()

    @property
    def is_over(self) -> bool:
        """Whether it may be another's by now: it was never taken, or not renewed for too long."""
        taken = self._taken_at
        return taken is None or self._store.clock.monotonic() - taken >= LENGTH.total_seconds()

    async def take(self) -> bool:
        """Take the turn, or renew it; False while it is another's. Raises StoreError."""
        clock = self._store.clock
        asked, now = clock.monotonic(), clock.now()
        stands = await self._store.records.put_if_absent(
            NAMESPACE, {self._name: self._token}, expires_at=now + LENGTH, now=now
        )
        is_ours = stands.get(self._name) == self._token
        self._taken_at = asked if is_ours else None
        return is_ours

    async def give_back(self) -> None:
        """End the turn, if it is ours. Raises StoreError."""
        self._taken_at = None
        await self._store.records.delete(NAMESPACE, {self._name: self._token})
