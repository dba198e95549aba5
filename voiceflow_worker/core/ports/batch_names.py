"""The names of a queue's batches, and suggestions for a mistyped name."""

from __future__ import annotations

from difflib import get_close_matches

from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.core.ports.reading import find_jobs
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.core.ports.store import gate_key

BATCH = "batch-name"
"""Namespace of the names of batches, by queue and name."""
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
        self._names = text_records(store, BATCH)
        self._prefix = gate_key(queue, "")

    async def known(self) -> list[str]:
        """All names, sorted, including the names of batches whose calls were deleted."""
        return sorted(key.removeprefix(self._prefix) for key, _ in await self._names.all(prefix=self._prefix))

    @staticmethod
    async def queues(store: Store) -> set[str]:
        """The queues that ever had a batch with a name."""
        return {key.partition(" ")[0] for key, _ in await text_records(store, BATCH).all()}

    async def has_calls(self, batch_id: str) -> bool:
        """Whether the queue has a call of this batch."""
        return bool(await find_jobs(self._store, Query(queue=self._queue, batch_id=batch_id, limit=1)))

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
        for key, _ in await self._names.page(prefix=self._prefix, limit=MOST_READ):
            name = key.removeprefix(self._prefix)
            spelled.setdefault(name.casefold(), []).append(name)
        near = get_close_matches(batch_id.casefold(), spelled, n=3)
        found = [name for each in near for name in spelled[each] if name != batch_id]
        return [name for name in found[:3] if await self.has_calls(name)]
