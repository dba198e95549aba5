"""The readiness check of /readyz: whether the store answers in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias

import anyio

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.errors import StoreError

Probe: TypeAlias = Callable[[], Awaitable[object]]
"""Asks the store something that it can only answer when summaries could be stored too. Raises StoreError."""

WITHIN = timedelta(seconds=1)
FRESH = 1.0
"""Seconds that an answer is given again: /readyz asks for no secret, so asking often must not cost the store much."""

_NAMESPACE = "readiness"
_KEPT_FOR = timedelta(minutes=5)


def store_probe(store: Store) -> Probe:
    """Writes a record of its own: a disk that is full, or a server that only reads, still answers questions."""
    name = new_worker_id()

    async def probe() -> None:
        now = store.clock.now()
        await store.records.put(_NAMESPACE, {name: ""}, expires_at=now + _KEPT_FOR, now=now)

    return probe


class Readiness:
    """Asks once for all who want to know at the same time."""

    def __init__(self, probe: Probe | None, *, within: timedelta = WITHIN) -> None:
        self._probe = probe
        self._within = within
        self._asking = anyio.Lock()
        self._until = float("-inf")
        self._why: str | None = None

    async def why_not(self) -> str | None:
        """A sentence that says why nothing can be taken now; None when the store answers."""
        if self._probe is None or anyio.current_time() < self._until:
            return self._why
        seconds = self._within.total_seconds()
        why: str | None = f"the store did not answer within {seconds:g} s"
        with anyio.move_on_after(seconds):
            async with self._asking:
                if anyio.current_time() < self._until:
                    return self._why  # somebody else has asked meanwhile
                why = await _asked(self._probe)
        self._why, self._until = why, anyio.current_time() + FRESH
        return why


async def _asked(probe: Probe) -> str | None:
    try:
        await probe()
    except StoreError as error:
        return f"the store is away: {error}"
    return None
