"""The settings and the durability of a Redis server, and the schema of its store, checked at each new connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from redis.exceptions import ResponseError

from voiceflow_worker.backends.health import Durability, Guarantee
from voiceflow_worker.backends.redis.faults import is_not_now
from voiceflow_worker.backends.redis.scripts import Exchange, script
from voiceflow_worker.backends.redis.url import RedisURL
from voiceflow_worker.backends.running import check_schema
from voiceflow_worker.backends.store_url import Promise
from voiceflow_worker.core.ports.store import History
from voiceflow_worker.errors import (
    NoStoreError,
    SettingsError,
    StoreCorruptError,
    StoreNotDurableError,
    StoreUnavailableError,
)
from voiceflow_worker.model.copying import replace

SCHEMA = 20
"""The version of the layout of a store's keys."""
OLDEST = (6, 2)
"""The oldest version that works. Older servers lack commands that the scripts need."""
NO_OTHER = "0" * 40
"""What a primary says that has not replaced any other since it was started."""
_SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
"""The settings on which the durability of a server depends, asked for one by one: servers before 7.0 take only one."""
_ACCEPT = (
    "Or accept that after a restart of this Redis calls may be lost, and people may be called twice: pass "
    'durability="best-effort" (?durability=best-effort in the store URL).'
)
_HIDDEN = (
    "this Redis does not show this user its state and its settings (INFO, CONFIG GET), so its durability cannot be "
    "checked. Give this user the rights in docs/stores.md (ACL SETUSER)."
)
_NO_AOF = (
    "appendonly is off: after a restart of this Redis, people could be called twice. Turn it on while the server runs "
    "(CONFIG SET appendonly yes, then CONFIG REWRITE): a restart would leave out what is in dump.rdb."
)
_EVICTS = (
    "maxmemory-policy is {}: this Redis drops keys when its memory is full, and calls could be made twice. Turn "
    "eviction off (CONFIG SET maxmemory-policy noeviction, then CONFIG REWRITE)."
)
_BEGINS = (
    "this Redis writes its first AOF, and keeps nothing of what is stored until that is done (INFO: "
    "aof_rewrite_in_progress, aof_rewrite_scheduled). This passes by itself, if its disk has room"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisDurability(Durability):
    """The guarantee of one server.

    `server` is the id of the server's process, which a restart changes; empty if the user may not see it. `store_id`
    and `history` are those of the store.
    """

    server: str = ""
    store_id: str = ""
    history: History | None = None


class Survey:
    """The checks of each new connection: the kind of the server, its durability, and the schema of the store.

    A server that restarts, or is replaced, while nobody asks it anything, may come back with other settings.
    """

    def __init__(self, url: RedisURL) -> None:
        self._url = url
        self._store_id = ""

    async def server(self, ask: Exchange) -> RedisDurability:
        """Return the durability of the server at the other end of a connection.

        Raises StoreNotDurableError for a server that has no AOF, evicts keys, or does not show its settings,
        SettingsError for one that is too old or not of the kind that the URL says, and StoreUnavailableError for a
        replica or a server that writes its first AOF. Raises StoreVersionError for a store of another version, and
        StoreCorruptError if its schema is no version.
        """
        info, *answers = await ask(("INFO",), *(("CONFIG", "GET", name) for name in _SETTINGS))
        for answer in (info, *answers):
            if isinstance(answer, ResponseError) and is_not_now(answer):
                raise answer
        facts = {} if isinstance(info, ResponseError) else _facts(str(info))
        settings = {
            name: None if isinstance(answer, ResponseError) else _setting(answer, name)
            for name, answer in zip(_SETTINGS, answers, strict=True)
        }
        if facts:
            self._require_kind(facts)
        found = durability_from(facts, settings, promise=self._url.promise)
        store_id, history = await self._store(ask, facts.get("master_replid2", NO_OTHER))
        return replace(found, server=facts.get("run_id", ""), store_id=store_id, history=history)

    async def _store(self, ask: Exchange, taken_over_from: str) -> tuple[str, History]:
        """Check the schema of the store, and return its id and its history. If the store is new, they are written."""
        key, *others = (f"{self._url.root}:{name}" for name in ("schema", "id", "made", "history"))
        makes = self._url.makes and not self._store_id
        values = SCHEMA, uuid4().hex, taken_over_from, int(makes)
        (stored,) = await ask(("EVAL", script("schema").text, 4, key, *others, *values))
        if isinstance(stored, ResponseError):
            raise stored
        if stored and not str(stored[0]).isdecimal():
            raise StoreCorruptError(
                f"the key {key} of the Redis at {self._url.shown} has the value {stored[0]!r}, which is not "
                "a schema version of this store; give the store its own database or its own prefix (?prefix=)"
            )
        if stored:
            own = "give the store its own prefix (?prefix=)"
            check_schema(int(stored[0]), SCHEMA, f"at {self._url.shown}", own=own)
        if self._store_id and (not stored or str(stored[1]) != self._store_id):
            leads = "leads to another store now than" if stored else "has no store any more, and not"
            raise StoreUnavailableError(
                f"{self._url.shown} {leads} the one that this process has opened, so nothing is read, stored or sent "
                "here. Find out where the name leads to, or who emptied it. If that was on purpose, restart this "
                "process"
            )
        if not stored:
            raise NoStoreError(
                f"there is no store in the Redis at {self._url.shown} under the prefix {self._url.prefix}, and this "
                "command does not make one. Check the database and the prefix in the store URL; `voiceflow doctor "
                "--make` makes a new store",
            )
        _, self._store_id, made_in, history = map(str, stored)
        return self._store_id, History(history, made_in, self._url.trusts_failover)

    def _require_kind(self, facts: Mapping[str, str]) -> None:
        if (mode := facts.get("redis_mode")) in {"sentinel", "cluster"}:
            raise SettingsError(
                f"the Redis at {self._url.shown} runs as a {mode}, in which no store can be; give the URL of a server "
                "of its own, or of its sentinels (redis+sentinel://host:26379/service)"
            )
        if version_of(facts) < OLDEST:
            raise SettingsError(
                f"the store URL names a Redis {facts.get('redis_version')}, which is too old; use Redis 6.2 or newer, "
                "or Valkey"
            )
        if facts.get("role") != "master":
            raise StoreUnavailableError(
                f"the Redis at {self._url.shown} is a replica now; give the primary's address, or use redis+sentinel://"
            )


def _facts(info: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


def _setting(answer: Any, name: str) -> str | None:
    pairs: Any = answer if hasattr(answer, "get") else dict(zip(answer[::2], answer[1::2], strict=True))
    value: str | None = pairs.get(name)
    return value


def version_of(facts: Mapping[str, str]) -> tuple[int, ...]:
    """Return the version of a server. A Valkey may name that of a Redis beside its own."""
    text = facts.get("valkey_version") or facts.get("redis_version", "")
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def durability_from(
    facts: Mapping[str, str], settings: Mapping[str, str | None], *, promise: Promise
) -> RedisDurability:
    """Return the durability of a store on a server with these answers to INFO and to CONFIG GET.

    If `promise` is not best effort, raises StoreNotDurableError for a server that has no AOF, evicts keys, or does not
    show its settings, and StoreUnavailableError for one that writes its first AOF.
    """
    if promise is Promise.BEST_EFFORT:
        unnoticed = "" if facts else "; this user may not run INFO, so no restart is noticed, and no failover"
        return RedisDurability(
            guarantee=Guarantee.NONE,
            promise="best effort, as requested: a restart of this Redis may lose calls, or cause people to be called"
            f" twice{unnoticed}",
        )
    appendonly, fsync, skips_fsync, eviction = (settings.get(name) for name in _SETTINGS)
    if not facts or appendonly is None or eviction is None:
        raise StoreNotDurableError(f"{_HIDDEN} {_ACCEPT}")
    if appendonly != "yes":
        raise StoreNotDurableError(f"{_NO_AOF} {_ACCEPT}")
    if eviction != "noeviction":
        raise StoreNotDurableError(f"{_EVICTS.format(eviction)} {_ACCEPT}")
    is_rewriting = "1" in {facts.get("aof_rewrite_in_progress"), facts.get("aof_rewrite_scheduled")}
    if facts.get("aof_enabled") == "0" or (is_rewriting and facts.get("aof_base_size") == "0"):
        raise StoreUnavailableError(_BEGINS)
    if skips_fsync == "yes":
        return _weak(Guarantee.SYSTEM, "no-appendfsync-on-rewrite is yes", "minute")
    if fsync == "always":
        promised = "appendfsync always: each commit is on the disk before it returns"
        return RedisDurability(guarantee=Guarantee.DISK, promise=promised)
    if fsync == "everysec" and _waits(facts):
        return RedisDurability(
            guarantee=Guarantee.WAITED,
            promise="WAITAOF: each commit waits until it is on the disk (appendfsync everysec)",
            warning="appendfsync is everysec, so each commit waits for up to a second; appendfsync always is as safe, "
            "and faster (CONFIG SET appendfsync always)",
        )
    if fsync == "everysec":
        return _weak(Guarantee.SECOND, "appendfsync everysec", "two seconds")
    return _weak(Guarantee.SYSTEM, "appendfsync is no", "minute")


def _waits(facts: Mapping[str, str]) -> bool:
    """Return True for a server whose WAITAOF answers once a write is on the disk.

    It is there since 7.2. That of Redis 7.4.0 to 7.4.2, and of Valkey since 8.0, answers before.
    """
    version = version_of(facts)
    is_too_early = version >= (8,) if "valkey_version" in facts else (7, 4) <= version < (7, 4, 3)
    return version >= (7, 2) and not is_too_early


def _weak(guarantee: Guarantee, why: str, lost: str) -> RedisDurability:
    promise = f"{why}: if the server's machine crashes, the last {lost} of writes may be lost, and calls made twice"
    remedy = "set appendfsync always and no-appendfsync-on-rewrite no (CONFIG SET, then CONFIG REWRITE)"
    return RedisDurability(guarantee=guarantee, promise=promise, warning=f"{promise}; {remedy}")
