"""What is left of calls that are gone: tombstones, and a list of those that were erased.

A tombstone has the batch of its call, which ends with the outcome of that call too.

A command that erases a person reaches the store and the files of its own host. The journal files of other hosts are
erased by their workers and receivers, within a minute (`core/retention.py`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.core.ports.store import Put

TOMBSTONES = "pruned"
"""Namespace of deleted calls, by their ids. The value is the batch of the call, or empty."""
ERASED_CALLS = "erased-call"
"""Namespace of the ids of erased calls, by the time of their erasure. They end with the last file that names them."""


def erased_call_put(job_id: str, *, at: datetime, keep_for: timedelta) -> Put:
    """The record of an erased call."""
    return Put(ERASED_CALLS, f"{at.timestamp():017.6f} {job_id}", "", at + keep_for)


OVERLAP = timedelta(minutes=10)


class Erasures:
    """The calls that were erased since one last looked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records = text_records(store, ERASED_CALLS)
        self._looked_after = self._read_to = ""

    async def new(self) -> set[str]:
        """The ids of the calls that were erased since `looked` was returned; all of them for one who begins."""
        found: set[str] = set()
        self._read_to = self._looked_after
        while page := await self._records.page(after=self._read_to):
            found |= {key.partition(" ")[2] for key, _ in page}
            self._read_to = page[-1][0]
        return found

    def looked(self) -> None:
        """Record that the files of this host have none of the calls that `new` has returned."""
        # A clock that was behind may add records before the newest: the last minutes are read again.
        at = float(self._read_to.partition(" ")[0]) - OVERLAP.total_seconds() if self._read_to else 0.0
        self._looked_after = f"{max(at, 0.0):017.6f}"
