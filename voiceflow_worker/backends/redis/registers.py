"""The names of all queues and namespaces of a store. Pruning needs them."""

from __future__ import annotations

from voiceflow_worker.backends.redis.connection.link import Link


class Registers:
    """The registers of queues and of namespaces. Each is a set of names, at `keys.queues` or `keys.namespaces`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._known: set[tuple[str, str]] = set()

    async def note(self, register: str, name: str) -> None:
        """Add a name to a register, before this process uses the name for the first time."""
        if (register, name) not in self._known:
            await self._link.ask(lambda client: client.sadd(register, [name]))
            self._known.add((register, name))

    async def names(self, register: str) -> list[str]:
        """All names in a register, sorted."""
        found: set[str] = await self._link.ask(lambda client: client.smembers(register))
        return sorted(found)
