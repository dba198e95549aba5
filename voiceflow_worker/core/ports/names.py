"""The names of queues and batches that a store knows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import NamedTuple

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import count_states
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.core.ports.store import Mode, Page, Put

QUEUES = "queue"


def queue_put(queue: str) -> Put:
    """The record of the name of a queue."""
    return Put(QUEUES, queue, "", None, Mode.KEEP)


class QueueNames:
    """The names of all queues that ever had a call, a worker or a hold. Names are never removed.

    The name of a queue is stored with its first call (`writes.enqueued`), and by each worker when it starts.
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
"""Namespace of the names of batches, in the group of their queue. The value is the sort key of the batch by age."""
CAMPAIGNS, PROGRAMS = "batch-age", "program-batch-age"
"""Namespaces of batches by age, the newest first: those of campaigns, and those that programs make (single calls,
escalations, tasks). In the group of their queue, the member is a sort key and the name."""
BATCH_KEPT = timedelta(days=400)
"""How long the name of a batch is kept."""
LONGEST_NAMED = 200
"""The most characters of an unknown name that a sentence repeats."""
MOST_READ = 5000
"""The most names that are searched, the newest first."""
NAMES_AT_ONCE = 500
"""The names of one page, where they are searched."""
_LAST_MILLISECOND = 2**48


def batch_puts(queue: str, batch_id: str, *, at: datetime, is_campaign: bool) -> tuple[Put, Put]:
    """The records of the name of a batch and of its age. Only the first ones of a name count."""
    sort_key, ends = f"{_LAST_MILLISECOND - int(at.timestamp() * 1000):012x}", at + BATCH_KEPT
    by_age = CAMPAIGNS if is_campaign else PROGRAMS
    return (
        Put(BATCH, queue, sort_key, ends, Mode.KEEP, batch_id),
        Put(by_age, queue, "", ends, Mode.KEEP, f"{sort_key} {batch_id}"),
    )


class NamedBatch(NamedTuple):
    """The name of a batch, and its sort key in the list of batches, the newest first, for the next page."""

    sort_key: str
    name: str
    is_campaign: bool


class BatchNames:
    """The names of a queue's batches, which are stored with their calls.

    A name stays after the calls of its batch were deleted.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue

    async def page(
        self, *, after: str = "", limit: int = NAMES_AT_ONCE, of: Sequence[str] = (CAMPAIGNS, PROGRAMS)
    ) -> list[NamedBatch]:
        """A page of batches, the newest first, behind a sort key; nothing at the end.

        Batches without calls are included. `of` are the namespaces of those that are wanted.
        """
        now = self._store.clock.now()
        behind = (self._queue, after) if after else None
        wanted = {each: Page(group=self._queue, after=behind, limit=limit) for each in of}
        found = await self._store.records(wanted, now=now)
        by_age = [
            NamedBatch(record.member, record.member.partition(" ")[2], is_campaign=namespace == CAMPAIGNS)
            for namespace, records in found.items()
            for record in records
        ]
        page = sorted(by_age)[:limit]
        if not page:
            return []
        names = {BATCH: [(self._queue, each.name) for each in page]}
        sort_keys = {record.member: record.value for record in (await self._store.records(names, now=now))[BATCH]}
        # Two processes may have made a batch at once. The name has the sort key of the first.
        first = [each for each in page if each.sort_key.startswith(f"{sort_keys.get(each.name)} ")]
        if len(page) < limit or len(first) == limit:
            return first
        return first + await self.page(after=page[-1].sort_key, limit=limit - len(first), of=of)

    async def has_calls(self, batch_id: str) -> bool:
        """Whether the queue has a call of this batch."""
        # By its counters, because a call that only a newer version can read is a call too.
        return any((await count_states(self._store, self._queue, batch_id=batch_id)).values())

    async def why_unknown(self, batch_id: str | None) -> str | None:
        """A sentence that the queue has no calls of this batch, with names like it as a hint.

        None if the batch has calls, or if `batch_id` is None, which is the whole queue.
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
        return f"batch {name} has no calls in queue {self._queue}; {hint}"

    async def near(self, batch_id: str) -> list[str]:
        """The names most like this one, of batches that have calls: at most three, the most similar first."""
        spelled: dict[str, list[str]] = {}
        for each in await self.page(limit=MOST_READ):
            spelled.setdefault(each.name.casefold(), []).append(each.name)
        near = get_close_matches(batch_id.casefold(), spelled, n=3)
        found = [name for each in near for name in spelled[each] if name != batch_id]
        return [name for name in found[:3] if await self.has_calls(name)]
