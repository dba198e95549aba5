"""Whether a store can be written, checked by writing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias

from voiceflow_worker.core.base.identity import new_worker_id
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import OfNumber
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write

Probe: TypeAlias = Callable[[], Awaitable[object]]
"""A function that succeeds only if the store can store summaries. Otherwise it raises StoreError."""

READINESS = "readiness"
"""Namespace of the records that probes write."""
_KEPT_FOR = timedelta(minutes=5)


def store_probe(store: Store) -> Probe:
    """Return a probe that does what summaries need: it writes a record, and searches for calls, as after an opt-out.

    A read alone would succeed even if the disk is full or the store is read-only. The search has a second purpose: the
    first search in SQLite opens a connection, and later there may be no free file descriptor for it.
    """
    name = new_worker_id()

    async def probe() -> None:
        now = store.clock.now()
        record = Write(puts=(Put(READINESS, name, "", now + _KEPT_FOR),))
        await store.write(BulkWrite(writes=(record,)), now=now)
        await find_jobs(store, OfNumber(queue=name, number=name, limit=1))

    return probe
