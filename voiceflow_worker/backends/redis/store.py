"""The Redis store, put together."""

from __future__ import annotations

from dataclasses import dataclass

from voiceflow_worker.backends.redis.control import RedisControl
from voiceflow_worker.backends.redis.durability import Durability
from voiceflow_worker.backends.redis.jobs import RedisJobs
from voiceflow_worker.backends.redis.keys import Keys
from voiceflow_worker.backends.redis.link import Link
from voiceflow_worker.backends.redis.records import RedisRecords
from voiceflow_worker.core.ports import Clock


@dataclass(frozen=True, slots=True)
class RedisStore:
    """One store in Redis, opened. Many processes may have it open; this object belongs to one event loop."""

    url: str
    jobs: RedisJobs
    control: RedisControl
    records: RedisRecords
    clock: Clock
    link: Link
    keys: Keys

    @property
    def durability(self) -> Durability:
        """What the server guarantees, as it was found when it was last connected."""
        return self.link.durability

    async def incarnation(self, queue: str) -> str:
        """Another text whenever another server, or the same one started anew, answers for this queue."""
        return str(await self.link.run("incarnation", self.keys.queue(queue)))
