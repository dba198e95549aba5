"""The settings and the durability of a Redis server, checked at every connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from coredis.exceptions import ResponseError

from voiceflow_worker.backends.redis.faults import is_not_now, script
from voiceflow_worker.backends.redis.line import Line
from voiceflow_worker.backends.redis.url import Promise, RedisURL, Topology
from voiceflow_worker.errors import (
    RedisForgetsError,
    SettingsError,
    StoreCorruptError,
    StoreUnavailableError,
    StoreVersionError,
)

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


OLDEST = (6, 2)
"""The oldest version that works. Older servers lack commands that the scripts need."""
_WAITAOF_SINCE = (7, 2)
"""The first version of Redis and Valkey that has WAITAOF, which waits until a write is on the disk."""

_ACCEPT = (
    "Or accept that after a restart of this Redis calls may be lost, and people may be called twice: pass "
    'durability="best-effort" (?durability=best-effort in the store URL).'
)


class Guarantee(StrEnum):
    """The durability of a commit that has returned. The best is listed first."""

    ALWAYS = "always"
    """`appendfsync always`: the commit is on the server's disk."""
    WAITED = "waited"
    """`WAITAOF` after each commit: the commit is on the server's disk."""
    SECOND = "second"
    """`appendfsync everysec`: a crash of the machine can lose the last two seconds."""
    SYSTEM = "system"
    """`appendfsync no`, or no fsync during rewrites: the operating system decides when a commit is on the disk."""
    NONE = "none"
    """The user accepts that the server may lose data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The properties of one server. A property that the server does not show is None."""

    version: tuple[int, ...]
    role: str | None = None
    mode: str | None = None
    replicas: int = 0
    appendonly: bool | None = None
    appendfsync: str | None = None
    fsync_during_rewrite: bool | None = None
    eviction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """The guarantee of a store. `promise` describes it in words; `warning` is about the server's configuration."""

    guarantee: Guarantee
    promise: str
    warning: str | None = None


def facts_from(info: Mapping[str, object], config: Mapping[str, str] | None) -> ServerFacts:
    """The facts from INFO and CONFIG GET. `config` is None if CONFIG GET is not allowed."""
    version = str(info.get("redis_version", "0"))
    settings = config or {}
    return ServerFacts(
        version=tuple(int(part) for part in version.split(".") if part.isdecimal()),
        role=str(info["role"]) if "role" in info else None,
        mode=str(info["redis_mode"]) if "redis_mode" in info else None,
        replicas=int(str(info.get("connected_slaves", 0))),
        appendonly={"yes": True, "no": False}.get(settings.get("appendonly", "")),
        appendfsync=settings.get("appendfsync"),
        fsync_during_rewrite={"no": True, "yes": False}.get(settings.get("no-appendfsync-on-rewrite", "")),
        eviction=settings.get("maxmemory-policy"),
    )


def judged(facts: ServerFacts, *, promise: Promise, replicas: int) -> Durability:
    """The durability of a store on this server.

    Raises SettingsError for a server that is too old. If `promise` is not best effort, raises RedisForgetsError for a
    server that has no AOF, evicts keys, or does not show its settings.
    """
    if facts.version < OLDEST:
        version = ".".join(map(str, facts.version))
        raise SettingsError(
            f"the store URL names a Redis {version}, which is too old; use Redis 6.2 or newer, or Valkey"
        )
    if promise is Promise.BEST_EFFORT:
        return Durability(
            guarantee=Guarantee.NONE,
            promise="best effort, as requested: a restart of this Redis may lose calls, or cause people to be called"
            " twice",
        )
    _require_memory(facts)
    durability = _on_disk(facts)
    if facts.replicas and not replicas:
        behind = (
            "commits do not wait for replicas: a failover can lose the last writes before it, and their calls may be "
            "made twice. Pass replicas=1 in the store URL to wait for one replica"
        )
        warning = behind if durability.warning is None else f"{durability.warning}; {behind}"
        return Durability(guarantee=durability.guarantee, promise=f"{durability.promise}; {behind}", warning=warning)
    return durability


def _require_memory(facts: ServerFacts) -> None:
    if facts.appendonly is None or facts.eviction is None:
        raise RedisForgetsError(
            "this Redis does not allow CONFIG GET, so its durability cannot be checked. Allow this user to read the "
            "configuration (ACL SETUSER … +config|get). The store needs appendonly yes, maxmemory-policy noeviction "
            "and appendfsync always. " + _ACCEPT
        )
    if not facts.appendonly:
        raise RedisForgetsError(
            "appendonly is off: after a restart of this Redis, people could be called twice. Turn appendonly on "
            "(CONFIG SET appendonly yes, then CONFIG REWRITE). " + _ACCEPT
        )
    if facts.eviction != "noeviction":
        raise RedisForgetsError(
            f"maxmemory-policy is {facts.eviction}: this Redis drops keys when its memory is full, and a call whose "
            "keys were dropped could be made twice. Turn eviction off (CONFIG SET maxmemory-policy noeviction, then "
            "CONFIG REWRITE). " + _ACCEPT
        )


def _on_disk(facts: ServerFacts) -> Durability:
    always = facts.appendfsync == "always"
    if always and facts.fsync_during_rewrite is not False:
        return Durability(
            guarantee=Guarantee.ALWAYS, promise="appendfsync always: each commit is on the disk before it returns"
        )
    if facts.version >= _WAITAOF_SINCE:
        return Durability(
            guarantee=Guarantee.WAITED,
            promise=f"WAITAOF: each commit waits until it is on the disk (appendfsync {facts.appendfsync})",
            warning=None
            if always
            else f"appendfsync is {facts.appendfsync}, so each commit waits for up to a second; appendfsync always is "
            "as safe, and faster (CONFIG SET appendfsync always)",
        )
    remedy = "set appendfsync always and no-appendfsync-on-rewrite no, or use Redis 7.2 or newer"
    if facts.appendfsync == "everysec" and facts.fsync_during_rewrite is not False:
        lost = "if the server's machine crashes, the last two seconds of writes may be lost, and calls made twice"
        promise = f"appendfsync everysec: {lost}"
        return Durability(guarantee=Guarantee.SECOND, promise=promise, warning=f"{promise}; {remedy}")
    lost = "if the server's machine crashes, the last minute of writes may be lost, and calls made twice"
    why = "no-appendfsync-on-rewrite is yes" if facts.appendfsync != "no" else "appendfsync is no"
    return Durability(guarantee=Guarantee.SYSTEM, promise=f"{why}: {lost}", warning=f"{why}: {lost}; {remedy}")
