"""The translation of errors of Redis into errors of this library."""

from __future__ import annotations

import hashlib
import re
import ssl
from copy import copy
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
    VoiceflowError,
)

NO_TLS = "a port without TLS does so: if this is one, write redis:// (or tls=no) in the store URL, or give its TLS port"


class RedisError(Exception):
    """A fault of Redis. A lost connection is an OSError."""


class ReplyError(RedisError):
    """An error that the server answered."""

    @property
    def code(self) -> str:
        """Its first word, such as NOSCRIPT."""
        return str(self).partition(" ")[0]


class NoPrimaryError(RedisError):
    """Nobody who answers knows the primary."""


class UnansweredError(ConnectionError):
    """The connection was lost before the answer to what was sent on it: the server may have done it, or do it yet."""


class NotConfirmedError(RedisError):
    """Too few servers have confirmed a write in time."""


class RefusedServerError(ConnectionError):
    """A new connection did not pass its check, and counts as lost; `why` says what it is."""

    def __init__(self, why: VoiceflowError) -> None:
        super().__init__(str(why))
        self.why = why


_NOT_NOW = re.compile(r"\b(LOADING|BUSY|MASTERDOWN|NOREPLICAS|UNBLOCKED|UNKILLABLE|NOQUORUM)\b")


_REFUSED_USER = re.compile(r"^(NOAUTH|WRONGPASS|ERR (invalid password|invalid username|.*\bAUTH\b))")
# In a script, Redis 6.2 says the second; Redis 7 and newer, and Valkey, the third.
_FORBIDDEN = re.compile(r"\bNOPERM\b|user executing the script can't|\bACL failure in script\b")


def is_forbidden(error: BaseException) -> bool:
    """Whether the server refuses a command or a key to this user."""
    return _FORBIDDEN.search(str(error)) is not None


def is_lost(error: BaseException) -> bool:
    """Whether the connection must be reopened.

    It is lost, the server is no longer the primary, or the user has lost a right: the opening then names all of them.
    """
    if isinstance(error, ReplyError):
        return "READONLY" in str(error) or is_forbidden(error)
    return isinstance(error, OSError)


def is_not_now(error: BaseException) -> bool:
    """Whether the server says that it cannot answer at the moment, for example while it loads its data."""
    return _NOT_NOW.search(str(error)) is not None


def _is_distrusted(error: BaseException) -> bool:
    """Whether the error comes from a certificate that was refused."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def translated(error: BaseException, *, shown: str) -> VoiceflowError:
    """Translate an error. `shown` is the store's URL without secrets.

    After a StoreUnavailableError, a write may or may not have been made. Repeating the same write shows whether it was
    made.
    """
    said = str(error).strip() or type(error).__name__
    where = f"the Redis at {shown}"
    match error:
        case VoiceflowError():
            return error
        case RefusedServerError():
            return copy(error.why)
        case NotConfirmedError():
            return StoreUnavailableError(
                f"{where} did not confirm in time that a write is durable ({said}); the write may be lost, so try "
                "again. If that goes on, look for a slow disk, and for replicas that are away (INFO replication): "
                "start them, or lower `replicas` in the store URL"
            )
        case ReplyError() if _REFUSED_USER.search(said):
            return StoreUnavailableError(
                f"{where} refuses this user ({said}); check the user name and password in the store URL", passes=False
            )
        case ReplyError() if is_forbidden(error):
            return StoreUnavailableError(
                f"{where} does not let this user do what the store needs ({said}); let whoever runs it add the rights "
                "in docs/stores.md (ACL SETUSER)",
                passes=False,
            )
        case OSError():
            cause = str(error.__cause__ or "").strip()
            message = f"{where} cannot be reached ({said}{': ' if cause else ''}{cause})"
            distrusted = _is_distrusted(error)
            if isinstance(error, ssl.SSLError) and not distrusted:
                message += f"; {NO_TLS}"
            elif not distrusted:
                message += "; check that it runs, and check the host and the port of the store URL"
            return StoreUnavailableError(message, passes=not distrusted)
        case _:
            return _answered(error, said, where)


def _answered(error: BaseException, said: str, where: str) -> StoreError:
    """Translate an error in an answer of the server. The code of a script's error may be anywhere in the text."""
    if re.search(r"\bOOM\b", said):
        return StoreReadOnlyError(
            f"{where} is out of memory and accepts no writes ({said}); raise its maxmemory (CONFIG SET maxmemory), or "
            "delete what other programs keep there. What it has can be read"
        )
    if re.search(r"\bMISCONF\b", said):
        return StoreReadOnlyError(
            f"{where} cannot write to its disk and accepts no writes ({said}); free space on that disk, or repair it"
        )
    if "READONLY" in said:
        return StoreUnavailableError(
            f"{where} is a read-only replica now ({said}); the connection is reopened. If the error continues, the "
            "store URL names a replica: give the primary's address, or use redis+sentinel://"
        )
    if re.search(r"\bWRONGTYPE\b", said):
        return StoreCorruptError(
            f"{where} has keys of another program with the names that this store uses ({said}); give the store its own "
            "database or its own prefix (?prefix=)"
        )
    if isinstance(error, NoPrimaryError) or _NOT_NOW.search(said):
        return StoreUnavailableError(f"{where} cannot answer now ({said}); try again in a moment")
    if isinstance(error, RedisError):
        return StoreError(f"{where} refused a command ({said}); check that it is Redis 6.2 or newer, or Valkey")
    return StoreUnavailableError(f"{where} could not be used ({type(error).__name__}: {said})")


_INCLUDE = re.compile(r"^-- @include (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its name, its text (preceded by the files that it includes), and its digest for EVALSHA."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script in `lua/<name>.lua`."""
    folder = files("voiceflow_worker.backends.redis") / "lua"
    own = (folder / f"{name}.lua").read_text("utf-8")
    included = _INCLUDE.search(own)
    parts = included.group(1).split() if included else []
    shared = [(folder / "shared" / f"{part}.lua").read_text("utf-8") for part in parts]
    text = "\n".join([*shared, own])
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha)


def load() -> None:
    """Read every script now. Later, there may be no free file descriptor to read one."""
    for each in (files("voiceflow_worker.backends.redis") / "lua").iterdir():
        if each.name.endswith(".lua"):
            script(each.name.removesuffix(".lua"))
