"""How tasks that wait for a queue learn that it has changed, whichever process changed it."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import anyio

from voiceflow_worker.backends.redis.connection.clients import Client
from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.backends.wakeups import Wakeups
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.errors import StoreError

BLOCK_MS = 2000
"""How long one XREAD blocks, at most: less than the time limit of an answer."""
RETRY_AFTER = 0.05
"""Seconds between two tries to listen while the store is away."""


class Changes:
    """Change counts, and one listener per queue for all tasks of this process that wait for it.

    The listener blocks in XREAD on a stream whose one entry carries the count as its id. Whatever was missed while the
    connection was lost lies behind the count it asks from; pub/sub would have lost it. Tasks wait for the listener and
    not for Redis themselves: giving up a blocked command costs its connection.
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
            changed = self._wakeups.event(queue)  # before the look: a change behind it is not slept through
            count = await self._count(queue)
            left = (until - self._clock.now()).total_seconds()
            if count != seen or left <= 0:
                return count
            await self._either(changed, left)

    async def _count(self, queue: str) -> int:
        """The change count: 1 for a queue that nobody has touched."""
        key = f"{self._keys.queue(queue)}:changes"
        return int(await self._link.ask(lambda client: client.get(key)) or 0) + 1

    async def _either(self, changed: anyio.Event, seconds: float) -> None:
        async with anyio.create_task_group() as group:

            async def give_up() -> None:
                await self._clock.sleep(seconds)
                group.cancel_scope.cancel()

            group.start_soon(give_up)
            await changed.wait()
            group.cancel_scope.cancel()

    async def _listen(self, queue: str) -> None:
        key = f"{self._keys.queue(queue)}:wake"
        known: int | None = None
        while True:
            try:
                if known is None:
                    known = await self._count(queue) - 1
                    # What changed before this, nobody told us.
                    self._wakeups.wake(queue)
                entry = await self._link.ask(partial(_next_entry, key=key, after=known))
                if entry is not None:
                    known = entry
                    self._wakeups.wake(queue)
            except StoreError:
                # A server that comes back may have been set back too: the count is asked for anew.
                known = None
                await anyio.sleep(RETRY_AFTER)


async def _next_entry(client: Client, *, key: str, after: int) -> int | None:
    """The count that the stream holds once it is larger than `after`; None after a while without."""
    read = await client.xread({key: f"{after}-0"}, block=BLOCK_MS)
    if not read:
        return None
    entries = next(iter(read.values()))
    return int(str(entries[-1].identifier).partition("-")[0])
