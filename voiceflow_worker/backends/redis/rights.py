"""What a user of Redis must be allowed to do, tried at each opening.

A script that is refused a command in its middle leaves its first half written. So every command is tried before, in a
form that changes nothing, and all that is refused is named at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from voiceflow_worker.backends.redis.connection import Connection
from voiceflow_worker.backends.redis.faults import ReplyError, is_forbidden
from voiceflow_worker.backends.redis.url import RedisURL, Topology
from voiceflow_worker.backends.store_url import Promise
from voiceflow_worker.errors import RedisForgetsError, StoreError, StoreUnavailableError

Command = tuple[str | int, ...]

SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
"""The settings on which the durability of a server depends."""
_FACTS = frozenset({"config|get", "info"})
"""What only shows how durable the server is."""
_ABSENT = re.compile(r"^ERR (unknown (sub)?command|.*\bcommand\b.*\b(not|disabled|forbidden)\b)", re.IGNORECASE)
"""A command that the server does not have, or has not for its users: it was renamed, or the provider has removed it."""

ACCEPT = (
    "Or accept that after a restart of this Redis calls may be lost, and people may be called twice: pass "
    'durability="best-effort" (?durability=best-effort in the store URL).'
)


def commands_of_scripts(root: str) -> list[Command]:
    """Every command of the scripts, each on keys of the store with this root, in a form that changes nothing.

    It is one that the server refuses for its arguments, or that finds nothing under its key. Each kind of key is read,
    and written, by at least one.
    """
    schema, room, ends, record, names, queue = (
        f"{root}:{kind}" for kind in ("schema", "room", "ends", "records:", "record-keys:", "queue:")
    )
    return [
        ("EVALSHA", "0" * 40, 1, root), ("EVAL", "return 1", 1, root), ("TIME",),
        ("GET", schema), ("SET", schema, "", "NX", "XX"),
        ("SETRANGE", room, 0, ""), ("SET", room, "", "NX", "XX"),
        ("ZADD", ends, "XX", 0, "\0"), ("ZREM", ends, "\0"), ("ZRANGEBYSCORE", ends, 0, 0, "LIMIT", 0, 0),
        ("HGET", record, "-"), ("HSET", record, "-", "-", "-"), ("HDEL", record, "-"),
        ("ZADD", names, "XX", 0, "-"), ("ZREM", names, "-"), ("ZRANGEBYLEX", names, "-", "+"),
        ("HMGET", queue, "-"), ("HGETALL", queue), ("HINCRBY", queue, "-", "x"), ("INCRBY", queue, "x"),
        ("ZCARD", queue), ("ZCOUNT", queue, 0, 0), ("ZRANGE", queue, 0, 0), ("ZREVRANGE", queue, 0, 0),
        ("ZREVRANGEBYLEX", queue, "+", "-"), ("ZREMRANGEBYSCORE", queue, 0, 0), ("EXISTS", queue), ("DEL", queue),
        ("XADD", queue, "NOMKSTREAM", "MAXLEN", 1, "1-0", "-", "-"), ("XREAD", "STREAMS", queue, "1-0"),
    ]  # fmt: skip


def commands_of_server(url: RedisURL) -> list[Command]:
    """What is asked of the server beside the scripts, except WAITAOF, which only some servers need."""
    commands: list[Command] = [("INFO",)]
    if url.promise is not Promise.BEST_EFFORT:
        # One setting at a time, because servers before 7.0 take only one.
        commands += [("CONFIG", "GET", setting) for setting in SETTINGS]
    if url.database:
        commands.append(("SELECT", url.database))
    if url.replicas:
        commands.append(("WAIT", 0, 1))
    if url.topology is Topology.CLUSTER:
        commands += [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")]
    return commands


WAITAOF: Command = ("WAITAOF", 0, 0, 1)


@dataclass(frozen=True, slots=True)
class Refusals:
    """What a user may not do: commands, by their names in rules of ACL, and the keys of the store.

    `absent` are commands that the server itself does not have.
    """

    commands: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    keys: bool = False

    def error(self, url: RedisURL) -> StoreError | None:
        """The error that names all of it, with the rule that allows it; None if nothing is refused."""
        lacking = {*self.commands, *self.absent}
        if not (lacking or self.keys):
            return None
        user = url.username or "default"
        found: list[str] = []
        if self.commands:
            found.append(f"does not let the user {user!r} run {_listed(self.commands)}")
        if self.keys:
            found.append(f"does not let the user {user!r} read and write all keys that begin with {url.root}")
        if self.absent:
            found.append(f"does not have {_listed(self.absent)}")
        message = f"the Redis at {url.shown} {'; it '.join(found)}. "
        if self.commands or self.keys:
            pattern = re.sub(r"([*?\[\]\\])", r"\\\1", url.root)
            rule = " ".join(["ACL SETUSER", user, f"~{pattern}*", *(f"+{name}" for name in self.commands)])
            message += f"Let whoever runs this Redis allow it: {rule}. "
        if lacking & _FACTS:
            message += f"{_listed(sorted(lacking & _FACTS))} show whether this Redis keeps what is written. {ACCEPT} "
        if lacking <= _FACTS and not self.keys:
            return RedisForgetsError(message.rstrip())
        return StoreUnavailableError(message.rstrip(), passes=False)


def refusals(replies: Sequence[tuple[Command, object]]) -> Refusals:
    """What the answers to these commands refuse."""
    commands: dict[str, None] = {}
    absent: dict[str, None] = {}
    keys = False
    for command, answer in replies:
        if not isinstance(answer, ReplyError):
            continue
        if is_forbidden(answer):
            if re.search(r"\bkeys?\b", str(answer)):
                keys = True
            else:
                commands[_name(command)] = None
        elif _ABSENT.search(str(answer)):
            absent[_name(command)] = None
    return Refusals(tuple(commands), tuple(absent), keys)


async def refused_rights(connection: Connection, url: RedisURL) -> StoreError | None:
    """The error that names every right which this user lacks, on a node of a cluster that need not have the store."""
    asked = [*commands_of_server(url), *commands_of_scripts(url.root)]
    return refusals(list(zip(asked, await connection.answers(asked), strict=True))).error(url)


def _name(command: Command) -> str:
    """The name of a command in rules of ACL."""
    words = command[:2] if command[0] in {"CONFIG", "CLUSTER"} else command[:1]
    return "|".join(str(word).lower() for word in words)


def _listed(names: Sequence[str]) -> str:
    shown = [name.replace("|", " ").upper() for name in names]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
