"""The settings and the durability of a Redis server, checked at every connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from voiceflow_worker.backends.health import Durability, Guarantee
from voiceflow_worker.backends.redis.connection import Connection
from voiceflow_worker.backends.redis.faults import ReplyError, is_not_now, script
from voiceflow_worker.backends.redis.url import RedisURL
from voiceflow_worker.backends.running import check_schema
from voiceflow_worker.backends.store_url import Promise
from voiceflow_worker.core.ports.store import History
from voiceflow_worker.errors import (
    NoStoreError,
    SettingsError,
    StoreCorruptError,
    StoreForgetsError,
    StoreUnavailableError,
)
from voiceflow_worker.model.copying import replace

SCHEMA = 17
"""The version of the layout of a store's keys."""
Command = tuple[str | int, ...]
ACCEPT = (
    "Or accept that after a restart of this Redis calls may be lost, and people may be called twice: pass "
    'durability="best-effort" (?durability=best-effort in the store URL).'
)
_SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
"""The settings on which the durability of a server depends, asked for one by one: servers before 7.0 take only one."""


class Survey:
    """The checks of each new connection: the kind of the server, its durability, and the schema of the store.

    A server that restarts, or is replaced, while nobody asks it anything, may come back with other settings.
    """

    def __init__(self, url: RedisURL) -> None:
        self._url = url
        self._store_id = ""

    async def server(self, connection: Connection) -> RedisDurability:
        """The durability of the server at the other end of a connection.

        Raises StoreForgetsError for a server that has no AOF, evicts keys, or does not show its settings, unless the
        store was opened on it before. Raises SettingsError for a server that is too old or not of the kind that the URL
        says, and StoreUnavailableError for a replica, for a server that writes its first AOF, or for a user who lacks a
        right. Raises StoreVersionError for a store of another version, and StoreCorruptError if its schema is not a
        version.
        """
        asked: list[Command] = [("HELLO",), ("INFO",)]
        if self._url.promise is not Promise.BEST_EFFORT:
            asked += [("CONFIG", "GET", setting) for setting in _SETTINGS]
        if self._url.database:
            asked.append(("SELECT", self._url.database))
        replies = list(zip(asked, await connection.answers(asked), strict=True))
        facts = facts_from(replies)
        self._require_kind(facts)
        for command, answer in replies:
            if isinstance(answer, ReplyError) and (is_not_now(answer) or command[0] == "SELECT"):
                raise answer
        may_forget = self._url.may_forget or bool(self._store_id)
        durability = durability_from(facts, promise=self._url.promise, may_forget=may_forget)
        makes = self._url.makes and not self._store_id and durability.forgets is None
        store_id, history = await self._store(connection, facts.taken_over_from, makes=makes)
        return replace(durability, server=facts.run_id or "", store_id=store_id, history=history)

    async def _store(self, connection: Connection, taken_over_from: str, *, makes: bool) -> tuple[str, History]:
        """The id of the store, and its history. Its schema version is checked.

        If the store is new, they are written. Raises StoreUnavailableError if there is no store, and none is made.
        """
        key, *others = (f"{self._url.root}:{name}" for name in ("schema", "id", "made", "history"))
        values = SCHEMA, uuid4().hex, taken_over_from
        text = script("schema").text
        stored = await connection.create_request(b"EVAL", text, 4, key, *others, *values, int(makes))
        if stored:
            self._require_schema(key, str(stored[0]))
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
        _, store_id, made_in, history = map(str, stored)
        self._store_id = store_id
        return store_id, History(history, made_in, self._url.trusts_failover)

    def _require_schema(self, key: str, version: str) -> None:
        if not version.isdecimal():
            raise StoreCorruptError(
                f"the key {key} of the Redis at {self._url.shown} has the value {version!r}, which is not "
                "a schema version of this store; give the store its own database or its own prefix (?prefix=)"
            )
        check_schema(int(version), SCHEMA, f"at {self._url.shown}", own="give the store its own prefix (?prefix=)")

    def _require_kind(self, facts: ServerFacts) -> None:
        if facts.version < OLDEST:
            version = ".".join(map(str, facts.version)) or "that does not answer HELLO"
            raise SettingsError(
                f"the store URL names a Redis {version}, which is too old; use Redis 6.2 or newer, or Valkey"
            )
        if facts.mode == "sentinel":
            raise SettingsError(
                f"the Redis at {self._url.shown} is a sentinel; write redis+sentinel://host:26379/name-of-the-service"
            )
        if facts.mode == "cluster":
            raise SettingsError(
                f"the Redis at {self._url.shown} is a node of a Redis Cluster, in which no store can be; give the URL "
                "of a server of its own, or of its sentinels"
            )
        if facts.role is not None and facts.role != "master":
            raise StoreUnavailableError(
                f"the Redis at {self._url.shown} is a replica now; give the primary's address, or use redis+sentinel://"
            )


def _pairs(answer: Any) -> dict[str, str]:
    """The settings in an answer to CONFIG GET: a map in RESP3, a flat list in RESP2."""
    pairs: Any = answer.items() if hasattr(answer, "items") else zip(answer[::2], answer[1::2], strict=True)
    return {str(name): str(value) for name, value in pairs}


OLDEST = (6, 2)
"""The oldest version that works. Older servers lack commands that the scripts need."""
_WAITAOF_SINCE = (7, 2)
"""The first version of Redis and Valkey that has WAITAOF, which waits until a write is on the disk."""
_TOO_EARLY = (7, 4), (7, 4, 3)
"""Of Redis, the first version whose WAITAOF answers before that, and the first that does not any more. Valkey's does
since 8.0."""


NO_OTHER = "0" * 40
"""What a primary says that has not replaced any other since it was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The properties of one server. A property that the server does not show is None.

    `run_id` is the id of its process, which a restart changes. `taken_over_from` is the id of the data of the primary
    that it has replaced; zeros if it was a primary from its start. If it keeps no AOF, a restart too may replace them.
    `begins_aof` is True until its first AOF is written: before that, it keeps nothing of what it confirms.
    """

    version: tuple[int, ...]
    is_valkey: bool = False
    role: str | None = None
    mode: str | None = None
    appendonly: bool | None = None
    begins_aof: bool = False
    appendfsync: str | None = None
    fsync_during_rewrite: bool | None = None
    eviction: str | None = None
    run_id: str | None = None
    taken_over_from: str = NO_OTHER

    @property
    def is_always(self) -> bool:
        """Whether each write is on the disk before it is answered."""
        return self.appendfsync == "always" and self.fsync_during_rewrite is not False

    @property
    def waits(self) -> bool:
        """Whether WAITAOF waits until a write is on the disk, and answers in time."""
        answers_in_time = self.appendfsync == "everysec" and self.fsync_during_rewrite is not False
        first, mended = _TOO_EARLY
        is_too_early = self.version >= (8,) if self.is_valkey else first <= self.version < mended
        return answers_in_time and self.version >= _WAITAOF_SINCE and not is_too_early


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisDurability(Durability):
    """The guarantee of one server.

    `server` is the id of the server's process, which a restart changes; empty if the user may not see it. `store_id`
    and `history` are those of the store.
    """

    server: str = ""
    store_id: str = ""
    history: History | None = None


def facts_from(replies: Sequence[tuple[Command, Any]]) -> ServerFacts:
    """The facts from the answers to HELLO, INFO and CONFIG GET. Raises ReplyError if the user is not logged in."""
    hello: dict[str, str] = {}
    info: dict[str, str] = {}
    settings: dict[str, str] = {}
    for (name, *_), answer in replies:
        if isinstance(answer, ReplyError):
            if name == "HELLO" and (answer.code == "NOAUTH" or is_not_now(answer)):
                raise answer
        elif name == "HELLO":
            hello = _pairs(answer)
        elif name == "INFO":
            info = dict(line.split(":", 1) for line in str(answer).splitlines() if ":" in line)
        elif name == "CONFIG":
            settings |= _pairs(answer)
    # Valkey may say that it is a Redis, with the version of one.
    version = info.get("valkey_version", hello.get("version", ""))
    is_rewriting = "1" in {info.get("aof_rewrite_in_progress"), info.get("aof_rewrite_scheduled")}
    return ServerFacts(
        version=tuple(int(part) for part in version.split(".") if part.isdecimal()),
        is_valkey="valkey" in {hello.get("server"), info.get("server_name")},
        role=hello.get("role"),
        mode=hello.get("mode"),
        appendonly={"yes": True, "no": False}.get(settings.get("appendonly", "")),
        begins_aof=info.get("aof_enabled") == "0" or (is_rewriting and info.get("aof_base_size") == "0"),
        appendfsync=settings.get("appendfsync"),
        fsync_during_rewrite={"no": True, "yes": False}.get(settings.get("no-appendfsync-on-rewrite", "")),
        eviction=settings.get("maxmemory-policy"),
        run_id=info.get("run_id"),
        taken_over_from=info.get("master_replid2", NO_OTHER),
    )


def durability_from(facts: ServerFacts, *, promise: Promise, may_forget: bool = False) -> RedisDurability:
    """The durability of a store on this server.

    If `promise` is not best effort, raises StoreForgetsError for a server that has no AOF, evicts keys, or does not
    show its settings, unless it `may_forget`, and StoreUnavailableError for one that writes its first AOF.
    """
    if promise is Promise.BEST_EFFORT:
        unnoticed = "" if facts.run_id else "; this user may not run INFO, so no restart is noticed, and no failover"
        return RedisDurability(
            guarantee=Guarantee.NONE,
            promise="best effort, as requested: a restart of this Redis may lose calls, or cause people to be called"
            f" twice{unnoticed}",
        )
    if (forgets := _why_forgets(facts)) is not None:
        if not may_forget:
            raise StoreForgetsError(f"{forgets} {ACCEPT}")
        lost = f"lost if Redis restarts: {forgets}"
        return RedisDurability(guarantee=Guarantee.NONE, promise=lost, forgets=lost)
    if facts.begins_aof:
        raise StoreUnavailableError(_BEGINS)
    return _on_disk(facts)


def _why_forgets(facts: ServerFacts) -> str | None:
    """Why a server may lose what it has confirmed, with the remedy; None if it does not."""
    if None in {facts.appendonly, facts.eviction, facts.run_id}:
        return (
            "this Redis does not show this user its state and its settings (INFO, CONFIG GET), so its durability "
            "cannot be checked. Add the rights in docs/stores.md (ACL SETUSER)."
        )
    if not facts.appendonly:
        return (
            "appendonly is off: after a restart of this Redis, people could be called twice. Turn appendonly on while "
            "it runs (CONFIG SET appendonly yes), wait until INFO has aof_rewrite_in_progress:0 and "
            "aof_rewrite_scheduled:0, then CONFIG REWRITE. A restart with appendonly yes in its file would leave out "
            "what is in dump.rdb."
        )
    if facts.eviction != "noeviction":
        return (
            f"maxmemory-policy is {facts.eviction}: this Redis drops keys when its memory is full, and a call whose "
            "keys were dropped could be made twice. Turn eviction off (CONFIG SET maxmemory-policy noeviction, then "
            "CONFIG REWRITE)."
        )
    return None


_BEGINS = (
    "this Redis writes its first AOF, and keeps nothing of what is stored until that is done (INFO: "
    "aof_rewrite_in_progress, aof_rewrite_scheduled). This passes by itself, if its disk has room"
)


def _on_disk(facts: ServerFacts) -> RedisDurability:
    if facts.is_always:
        return RedisDurability(
            guarantee=Guarantee.DISK, promise="appendfsync always: each commit is on the disk before it returns"
        )
    if facts.waits:
        return RedisDurability(
            guarantee=Guarantee.WAITED,
            promise="WAITAOF: each commit waits until it is on the disk (appendfsync everysec)",
            warning="appendfsync is everysec, so each commit waits for up to a second; appendfsync always is as safe, "
            "and faster (CONFIG SET appendfsync always)",
        )
    remedy = "set appendfsync always and no-appendfsync-on-rewrite no (CONFIG SET, then CONFIG REWRITE)"
    if facts.appendfsync == "everysec" and facts.fsync_during_rewrite is not False:
        lost = "if the server's machine crashes, the last two seconds of writes may be lost, and calls made twice"
        promise = f"appendfsync everysec: {lost}"
        return RedisDurability(guarantee=Guarantee.SECOND, promise=promise, warning=f"{promise}; {remedy}")
    lost = "if the server's machine crashes, the last minute of writes may be lost, and calls made twice"
    why = "no-appendfsync-on-rewrite is yes" if facts.appendfsync != "no" else "appendfsync is no"
    return RedisDurability(guarantee=Guarantee.SYSTEM, promise=f"{why}: {lost}", warning=f"{why}: {lost}; {remedy}")
