"""Names of the queues of a store that ever had a worker."""

from __future__ import annotations

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import text_records

NAMESPACE = "queue"


class QueueNames:
    """The names of all queues that ever had a worker. Other queues have no POSTs. Names are never removed."""

    def __init__(self, store: Store) -> None:
        self._names = text_records(store, NAMESPACE)

    async def remember(self, queue: str) -> None:
        """Add the name of a queue. Each worker of the queue does this when it starts."""
        await self._names.put({queue: ""})

    async def known(self) -> list[str]:
        """All names, sorted."""
        return [name for name, _ in await self._names.all()]
