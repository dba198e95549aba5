"""The names of all queues and namespaces of a store, which pruning needs."""

from __future__ import annotations

from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.link import Link


class Registers:
    """Two sets of names. A name is stored before its first use by this process, so none is missing."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._known: set[tuple[str, str]] = set()

    async def queue(self, queue: str) -> None:
        """Store the name of a queue that is used."""
        await self._note(self._keys.queues, queue)

    async def namespace(self, namespace: str) -> None:
        """Store the name of a namespace that is used."""
        await self._note(self._keys.namespaces, namespace)

    async def queues(self) -> list[str]:
        """The queues of this store."""
        return await self._names(self._keys.queues)

    async def namespaces(self) -> list[str]:
        """The namespaces of records of this store."""
        return await self._names(self._keys.namespaces)

    async def _note(self, register: str, name: str) -> None:
        if (register, name) not in self._known:
            await self._link.ask(lambda client: client.sadd(register, [name]))
            self._known.add((register, name))

    async def _names(self, register: str) -> list[str]:
        found: set[str] = await self._link.ask(lambda client: client.smembers(register))
        return sorted(found)
