"""The readiness check of /readyz: whether the store answers in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias

import anyio

from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.core.ports.identity import new_worker_id
from voiceflow_worker.core.ports.reading import find_jobs
from voiceflow_worker.core.ports.store import Put, Step, Unit
from voiceflow_worker.errors import StoreError

Probe: TypeAlias = Callable[[], Awaitable[object]]
"""A function that succeeds only if the store can store summaries. Otherwise it raises StoreError."""

WITHIN = timedelta(seconds=1)
FRESH = 1.0
"""Seconds for which a result is reused. /readyz needs no secret, so frequent requests must not load the store."""

_NAMESPACE = "readiness"
_KEPT_FOR = timedelta(minutes=5)


def store_probe(store: Store) -> Probe:
    """A probe that does what summaries need: it writes a record, and searches for calls, as is done after an opt-out.

    A read alone would succeed even if the disk is full or the store is read-only. The search has a second purpose: the
    first search in SQLite opens a connection, and later there may be no free file descriptor for it.
    """
    name = new_worker_id()

    async def probe() -> None:
        now = store.clock.now()
        mark = Unit(puts=(Put(_NAMESPACE, name, "", now + _KEPT_FOR),))
        await store.write(Step(units=(mark,)), now=now)
        await find_jobs(store, Query(queue=name, limit=1))

    return probe


class Readiness:
    """The readiness of a store. Requests at the same time share one probe."""

    def __init__(self, probe: Probe | None, *, within: timedelta = WITHIN) -> None:
        self._probe = probe
        self._within = within
        self._asking = anyio.Lock()
        self._until = float("-inf")
        self._why: str | None = None

    async def why_not(self) -> str | None:
        """The reason why events cannot be stored now, as a clause; None if they can be stored."""
        if self._probe is None or anyio.current_time() < self._until:
            return self._why
        seconds = self._within.total_seconds()
        why: str | None = f"the store did not answer within {seconds:g} s"
        with anyio.move_on_after(seconds):
            async with self._asking:
                if anyio.current_time() < self._until:
                    return self._why  # another request has probed meanwhile
                try:
                    await self._probe()
                    why = None
                except StoreError as error:
                    why = f"the store cannot be used: {error}"
        self._why, self._until = why, anyio.current_time() + FRESH
        return why
