"""The checks of each connection before it may carry calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coredis.exceptions import ResponseError

from voiceflow_worker.backends.redis.connection.durability import Durability, ServerFacts, facts_from, judged
from voiceflow_worker.backends.redis.connection.faults import is_not_now
from voiceflow_worker.backends.redis.connection.line import Line
from voiceflow_worker.backends.redis.connection.scripts import script
from voiceflow_worker.backends.redis.connection.url import RedisURL, Topology
from voiceflow_worker.errors import SettingsError, StoreCorruptError, StoreUnavailableError, StoreVersionError

SCHEMA = 5
"""The version of the layout of a store's keys."""
_SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
_PACKING = "hash-max-ziplist-value"
"""The Redis setting for `Packing.up_to`. Redis 7.0 calls it `hash-max-listpack-value`, but still knows this name."""
_ENOUGH = 2048


@dataclass(frozen=True, slots=True)
class Packing:
    """The longest field, in bytes, of a hash that Redis stores in its compact form (`up_to`), which takes less memory.

    `setting` is the name of this limit among the settings of Redis. With a limit of `enough` bytes, jobs are compact.
    """

    up_to: int
    setting: str = _PACKING
    enough: int = _ENOUGH


class Survey:
    """The checks of each new connection: the kind of the server, its durability, and the schema of the store.

    A server that restarts, or is replaced, while nobody asks it anything, may come back with other settings.
    """

    def __init__(self, url: RedisURL) -> None:
        self._url = url

    async def server(self, line: Line) -> Durability:
        """The durability of the server at the other end of a connection.

        Raises RedisForgetsError for a server that has no AOF, evicts keys, or does not show its settings. Raises
        SettingsError for a server that is too old or not of the kind that the URL says, and StoreUnavailableError for a
        replica. Raises StoreVersionError for a store of another version, and StoreCorruptError if its schema is not a
        version.
        """
        facts = await _facts_of(line)
        self._require_kind(facts)
        durability = judged(facts, promise=self._url.promise, replicas=self._url.replicas)
        await self._schema(line)
        return durability

    async def _schema(self, line: Line) -> None:
        """Write the schema version if the store is new; otherwise check the stored version."""
        key = f"{self._url.root}:schema"
        stands = str(await line.create_request(b"EVAL", script("schema").text, 1, key, SCHEMA))
        if not stands.isdecimal():
            raise StoreCorruptError(
                f"the key {key} of the Redis at {self._url.shown} has the value {stands!r}, which is not "
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


async def packing_of(line: Line) -> Packing | None:
    """The packing of the server; None if it does not show it."""
    try:
        return Packing(int(_pairs(await line.create_request(b"CONFIG", "GET", _PACKING))[_PACKING]))
    except (ResponseError, KeyError) as error:
        if isinstance(error, ResponseError) and is_not_now(error):
            raise
        return None


async def _facts_of(line: Line) -> ServerFacts:
    lines = str(await line.create_request(b"INFO")).splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    settings: dict[str, str] = {}
    try:
        for name in _SETTINGS:  # one at a time, because servers before 7.0 take only one
            settings |= _pairs(await line.create_request(b"CONFIG", "GET", name))
    except ResponseError as error:
        if is_not_now(error):
            raise
        # Managed servers rename or forbid CONFIG.
        return facts_from(info, None)
    return facts_from(info, settings)


def _pairs(answer: Any) -> dict[str, str]:
    """The settings in an answer to CONFIG GET: a map in RESP3, a flat list in RESP2."""
    pairs: Any = answer.items() if hasattr(answer, "items") else zip(answer[::2], answer[1::2], strict=True)
    return {str(name): str(value) for name, value in pairs}
