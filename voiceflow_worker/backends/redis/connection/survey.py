"""The checks of every server before it may store calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from coredis import Redis, RedisCluster
from coredis.exceptions import ResponseError

from voiceflow_worker.backends.redis.connection.clients import Client
from voiceflow_worker.backends.redis.connection.durability import Durability, ServerFacts, facts_from, judged, weakest
from voiceflow_worker.backends.redis.connection.faults import is_not_now
from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.scripts import script
from voiceflow_worker.backends.redis.connection.url import RedisURL, Topology
from voiceflow_worker.errors import SettingsError, StoreCorruptError, StoreUnavailableError, StoreVersionError

SCHEMA = 3
"""The version of the layout of a store's keys."""
_SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
_PACKING = "hash-max-ziplist-value"
"""The Redis setting for `Packing.up_to`. Redis 7.0 calls it `hash-max-listpack-value`, but still knows this name."""
_ENOUGH = 2048

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Packing:
    """The longest field, in bytes, of a hash that Redis stores in its compact form (`up_to`), which takes less memory.

    `setting` is the name of this limit among the settings of Redis. With a limit of `enough` bytes, jobs are compact.
    """

    up_to: int
    setting: str = _PACKING
    enough: int = _ENOUGH


class Survey:
    """The checks of every new session: the kind of the server, its durability, and the schema of the store."""

    def __init__(self, url: RedisURL, keys: Keys) -> None:
        self._url = url
        self._keys = keys

    async def durability(self, client: Client) -> Durability:
        """The durability of the store.

        Raises RedisForgetsError for a server that has no AOF, evicts keys, or does not show its settings. Raises
        SettingsError for a server that is too old or not of the kind that the URL says, and StoreUnavailableError for a
        replica.
        """
        found: list[Durability] = []
        for facts in await _of_each(client, _facts_of):
            self._require_kind(facts)
            found.append(judged(facts, promise=self._url.promise, replicas=self._url.replicas))
        return weakest(found)

    async def schema(self, client: Client) -> None:
        """Write the schema version if the store is new; otherwise check the stored version.

        Raises StoreVersionError for another version, and StoreCorruptError if the stored value is not a version.
        """
        stands = str(await client.eval(script("schema").text, keys=[self._keys.schema], args=[SCHEMA]))
        if not stands.isdecimal():
            raise StoreCorruptError(
                f"the key {self._keys.schema} of the Redis at {self._url.shown} has the value {stands!r}, which is not "
                "a schema version of this store; give the store its own database or its own prefix (?prefix=)"
            )
        if int(stands) != SCHEMA:
            remedy = "Upgrade this installation" if int(stands) > SCHEMA else "Use that version"
            raise StoreVersionError(
                f"the store at {self._url.shown} was made by another version of voiceflow-worker: it has schema "
                f"{stands}, and this one knows only schema {SCHEMA}. Nothing was changed. {remedy}, or "
                "give the store its own prefix (?prefix=)."
            )

    def _require_kind(self, facts: ServerFacts) -> None:
        if facts.mode == "sentinel":
            raise SettingsError(
                f"the Redis at {self._url.shown} is a sentinel; write redis+sentinel://host:26379/name-of-the-service"
            )
        if facts.mode == "cluster" and self._url.topology is not Topology.CLUSTER:
            raise SettingsError(
                f"the Redis at {self._url.shown} is a node of a Redis Cluster; write redis+cluster://host:port"
            )
        if facts.role is not None and facts.role != "master":
            raise StoreUnavailableError(
                f"the Redis at {self._url.shown} is a replica now; give the primary's address, or use redis+sentinel://"
            )


async def packing_of(client: Client) -> Packing | None:
    """The packing of the server, or the smallest of a cluster; None if a server does not show it."""
    try:
        return Packing(min(await _of_each(client, _packed_up_to)))
    except (ResponseError, KeyError) as error:
        if isinstance(error, ResponseError) and is_not_now(error):
            raise
        return None


async def _of_each(client: Client, look: Callable[[Redis[str]], Awaitable[T]]) -> list[T]:
    """The results of `look` on the server, or on each primary of a cluster."""
    if not isinstance(client, RedisCluster):
        return [await look(client)]
    found: list[T] = []
    for node in client.primaries:
        async with node:
            found.append(await look(node))
    return found


async def _packed_up_to(client: Redis[str]) -> int:
    return int((await client.config_get([_PACKING]))[_PACKING])


async def _facts_of(client: Redis[str]) -> ServerFacts:
    info = await client.info()
    settings: dict[str, str] = {}
    try:
        for name in _SETTINGS:  # one at a time, because servers before 7.0 take only one
            settings |= await client.config_get([name])
    except ResponseError as error:
        if is_not_now(error):
            raise
        # Managed servers rename or forbid CONFIG.
        return facts_from(info, None)
    return facts_from(info, settings)
