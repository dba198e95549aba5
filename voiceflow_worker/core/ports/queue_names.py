"""The queues of a store, by name: what was asked of one queue may have been done by another."""

from __future__ import annotations

from datetime import datetime

from voiceflow_worker.core.ports import Records

NAMESPACE = "queue"


class QueueNames:
    """Remembers, for good, which queues ever had a worker: only those have POSTs."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def remember(self, queue: str, *, now: datetime) -> None:
        """A worker of this queue begins."""
        await self._records.put(NAMESPACE, {queue: ""}, expires_at=None, now=now)

    async def known(self, *, now: datetime) -> list[str]:
        """All names."""
        names: list[str] = []
        while page := await self._records.scan(NAMESPACE, now=now, after=names[-1] if names else ""):
            names += [name for name, _ in page]
        return names
