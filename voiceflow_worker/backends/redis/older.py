"""The store with the older port (`core/ports/store.py`) beside the nine methods, until nobody uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceflow_worker.backends.older import OlderControl, OlderJobs, OlderRecords
from voiceflow_worker.backends.redis.connection.survey import Packing

if TYPE_CHECKING:
    from voiceflow_worker.backends.redis.store import RedisStore


class OlderStore:
    """The store with both ports: the nine methods are those of `domain`."""

    def __init__(self, domain: RedisStore) -> None:
        self.domain = domain
        self.url, self.clock, self.link = domain.url, domain.clock, domain.link
        self.durability = domain.durability
        self.jobs = OlderJobs(domain)
        self.control = OlderControl(domain)
        self.records = OlderRecords(domain)

    async def packing(self) -> Packing | None:
        """How the server packs jobs in its memory."""
        return await self.domain.packing()
