"""The names of a queue's batches, kept when calls are enqueued: a typing error can be answered with near ones."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches
from urllib.parse import quote, unquote

from voiceflow_worker.core.ports import Query, Store

NAMES = "batch-name"
KEPT_FOR = timedelta(days=400)
MOST_READ = 5000
"""How many names are looked through for near ones."""
_PAGE = 1000


class BatchNames:
    """Knows which batches of a queue have calls. Names are hints: only the jobs themselves say that a batch is there.

    A batch that an older version enqueued has no name here, and is found all the same.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._kept: set[str] = set()

    async def keep(self, batch_ids: Iterable[str | None]) -> None:
        """Keep these names, each once in the life of this object. Raises StoreError."""
        new = {batch_id for batch_id in batch_ids if batch_id is not None} - self._kept
        if not new:
            return
        now = self._store.clock.now()
        values = {self._prefix + quote(batch_id, safe=""): "" for batch_id in new}
        await self._store.records.put(NAMES, values, expires_at=now + KEPT_FOR, now=now)
        self._kept |= new

    async def has_calls(self, batch_id: str) -> bool:
        """Whether the queue holds a call of this batch."""
        return bool(await self._store.jobs.find(Query(queue=self._queue, batch_id=batch_id, limit=1)))

    async def near(self, batch_id: str) -> list[str]:
        """At most three batches with calls whose names resemble this one, the likeliest first."""
        spelled: dict[str, list[str]] = {}
        for name in await self._names():
            spelled.setdefault(name.casefold(), []).append(name)
        near = get_close_matches(batch_id.casefold(), spelled, n=3)
        found = [name for each in near for name in spelled[each] if name != batch_id]
        return [name for name in found[:3] if await self.has_calls(name)]

    async def _names(self) -> list[str]:
        names: list[str] = []
        after = ""
        while len(names) < MOST_READ:
            page = await self._store.records.scan(
                NAMES, now=self._store.clock.now(), prefix=self._prefix, after=after, limit=_PAGE
            )
            names += [unquote(key.removeprefix(self._prefix)) for key, _ in page]
            if len(page) < _PAGE:
                break
            after = page[-1][0]
        return names

    @property
    def _prefix(self) -> str:
        return f"{self._queue}/"
