"""Change counts of queues in Redis, and the tasks that wait for them."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import anyio
from anyio.lowlevel import checkpoint

from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.backends.wakeups import Wakeups
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.errors import StoreError

BLOCK_MS = 2000
"""The longest time, in milliseconds, for which an XREAD blocks. It must be less than the timeout of an answer."""
RETRY_AFTER = 0.05
"""Seconds between two tries to listen while the store cannot be reached."""


class QueueChanges:
    """The change counts of queues, with one listener per queue for all waiting tasks of this process.

    A listener blocks in XREAD on a stream with one entry, whose id is the change count less 1. The listener asks for an
    entry newer than the count that it knows. After a lost connection it therefore gets the changes made meanwhile; with
    pub/sub it would miss them. Tasks wait for the listener and not for Redis, because cancelling a blocked command
    closes its connection.
    """

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._wakeups = Wakeups()
        self._listened: set[str] = set()
        self._heard: dict[str, int] = {}

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        """Wait until the change count differs from `seen`, but not longer than `until`. Returns the change count."""
        if queue not in self._listened:
            self._listened.add(queue)
            self._link.start(partial(self._listen, queue))
        while True:
            change = self._wakeups.next(queue)  # first, so that no change after the read is missed
            count = await self._count(queue)
            left = (until - self._clock.now()).total_seconds()
            if count != seen or left <= 0:
                return count
            await change.wait(self._clock, within=left)
            # The listener has just heard the count, which saves a trip to the server before the next lease.
            if (heard := self._heard.get(queue, seen)) > seen:
                return heard

    async def _count(self, queue: str) -> int:
        """The change count; 1 for a queue without changes."""
        key = f"{self._link.root}:queue:{queue}:changes"
        return int(await self._link.ask(lambda line: line.create_request(b"GET", key)) or 0) + 1

    async def _listen(self, queue: str) -> None:
        key = f"{self._link.root}:queue:{queue}:wake"
        while True:
            try:
                if queue not in self._heard:
                    self._heard[queue] = await self._count(queue)
                    # There may have been changes before the listener knew the count.
                    self._wakeups.wake(queue)
                after = self._heard[queue] - 1
                entry = await self._link.listen(key, after=f"{after}-0", within_ms=BLOCK_MS)
                if entry is not None:
                    self._heard[queue] = int(entry.partition("-")[0]) + 1
                    self._wakeups.wake(queue)
                    await checkpoint()  # whoever waits goes on first
            except StoreError:
                # The server may come back with older data, so the count is read again.
                self._heard.pop(queue, None)
                await anyio.sleep(RETRY_AFTER)
