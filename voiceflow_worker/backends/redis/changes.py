"""Change counts of queues in Redis, and the tasks that wait for them."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import anyio

from voiceflow_worker.backends.redis.connection.clients import Client
from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.backends.wakeups import Wakeups, either
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.errors import StoreError

BLOCK_MS = 2000
"""How long one XREAD blocks at most: less than the time limit of an answer."""
RETRY_AFTER = 0.05
"""Seconds between two tries to listen while the store is away."""


class QueueChanges:
    """Change counts, and one listener per queue for all waiting tasks of this process.

    The listener blocks in XREAD on a stream with one entry, whose id is the count. It asks for what is newer than the
    count that it knows, so it misses nothing while the connection is lost; pub/sub would. Tasks wait for the listener
    and not for Redis: cancelling a blocked command costs its connection.
    """

    def __init__(self, link: Link, keys: Keys, clock: Clock) -> None:
        self._link = link
        self._keys = keys
        self._clock = clock
        self._wakeups = Wakeups()
        self._listened: set[str] = set()

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Return when the change count is no longer `seen`, or at `until`; gives the count."""
        if queue not in self._listened:
            self._listened.add(queue)
            self._link.start(partial(self._listen, queue))
        while True:
            changed = self._wakeups.event(queue)  # first, so that no change after the read is missed
            count = await self._count(queue)
            left = (until - self._clock.now()).total_seconds()
            if count != seen or left <= 0:
                return count
            await either(changed, self._clock, within=left)

    async def _count(self, queue: str) -> int:
        """The change count; 1 for a queue without changes."""
        key = f"{self._keys.queue(queue)}:changes"
        return int(await self._link.ask(lambda client: client.get(key)) or 0) + 1

    async def _listen(self, queue: str) -> None:
        key = f"{self._keys.queue(queue)}:wake"
        known: int | None = None
        while True:
            try:
                if known is None:
                    known = await self._count(queue) - 1
                    # Changes before this were not reported.
                    self._wakeups.wake(queue)
                entry = await self._link.ask(partial(_next_entry, key=key, after=known))
                if entry is not None:
                    known = entry
                    self._wakeups.wake(queue)
            except StoreError:
                # A server that comes back may have been rolled back: ask for the count again.
                known = None
                await anyio.sleep(RETRY_AFTER)


async def _next_entry(client: Client, *, key: str, after: int) -> int | None:
    """The count in the stream once it is larger than `after`; None when none came within `BLOCK_MS`."""
    read = await client.xread({key: f"{after}-0"}, block=BLOCK_MS)
    if not read:
        return None
    entries = next(iter(read.values()))
    return int(str(entries[-1].identifier).partition("-")[0])
