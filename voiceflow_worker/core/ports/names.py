"""The names of queues and batches that a store knows."""

from __future__ import annotations

from difflib import get_close_matches

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import count_states
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.core.ports.store import Mode, Put

QUEUES = "queue"


def queue_put(queue: str) -> Put:
    """The record of the name of a queue."""
    return Put(QUEUES, queue, "", None, Mode.KEEP)


class QueueNames:
    """The names of all queues that ever had a call or a worker. Names are never removed.

    The name of a queue is stored with its first call (`units.enqueued`), and by each worker when it starts.
    """

    def __init__(self, store: Store) -> None:
        self._names = text_records(store, QUEUES)

    async def remember(self, queue: str) -> None:
        """Add the name of a queue."""
        await self._names.put({queue: ""})

    async def known(self) -> list[str]:
        """All names, sorted."""
        return [name for name, _ in await self._names.all()]


BATCH = "batch-name"
"""Namespace of the names of batches, in the group of their queue."""
LONGEST_NAMED = 200
"""The most characters of an unknown name that a sentence repeats."""
MOST_READ = 5000
"""The most names that are searched for suggestions."""


class BatchNames:
    """The names of a queue's batches, which are stored with their calls.

    A name stays after the calls of its batch were deleted.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._names = text_records(store, BATCH).within(queue)

    async def known(self) -> list[str]:
        """All names, sorted, including the names of batches whose calls were deleted."""
        return [name for name, _ in await self._names.all()]

    async def has_calls(self, batch_id: str) -> bool:
        """Whether the queue has a call of this batch."""
        # By its counters, because a call that only a newer version can read is a call too.
        return any((await count_states(self._store, self._queue, batch_id=batch_id)).values())

    async def why_unknown(self, batch_id: str | None) -> str | None:
        """A sentence that the queue has no calls of this batch, with names like it as a hint.

        None if the batch has calls, or if `batch_id` is None, which stands for the whole queue.
        """
        if batch_id is None or await self.has_calls(batch_id):
            return None
        near = await self.near(batch_id)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "the id of a batch is the name that was given to it, or the name of its file without its extension"
        )
        name = f"{batch_id[:LONGEST_NAMED]}{'…' if len(batch_id) > LONGEST_NAMED else ''}"
        return f"batch {name} has no calls in queue {self._queue} of {self._store.url}; {hint}"

    async def near(self, batch_id: str) -> list[str]:
        """The names most like this one, of batches that have calls: at most three, the most similar first."""
        spelled: dict[str, list[str]] = {}
        for name, _ in await self._names.page(limit=MOST_READ):
            spelled.setdefault(name.casefold(), []).append(name)
        near = get_close_matches(batch_id.casefold(), spelled, n=3)
        found = [name for each in near for name in spelled[each] if name != batch_id]
        return [name for name in found[:3] if await self.has_calls(name)]
