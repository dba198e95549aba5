"""Errors of Redis and of the driver, translated into errors of this library."""

from __future__ import annotations

import re
import ssl

import anyio
from coredis import exceptions as driver

from voiceflow_worker.errors import (
    Remedy,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
    VoiceflowError,
)

LOST = (driver.ConnectionError, TimeoutError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError)
"""Errors of a connection that is gone, or of a server that does not answer."""

_NOT_NOW = re.compile(r"\b(LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|UNBLOCKED|UNKILLABLE|NOQUORUM)\b")


def is_lost(error: BaseException) -> bool:
    """Whether the connection should be reopened: it is gone, or the server is no longer the primary."""
    return isinstance(error, (*LOST, driver.ReadOnlyError)) or "READONLY" in str(error)


def is_not_now(error: BaseException) -> bool:
    """Whether the server said that it cannot answer at this moment, such as while it reads its file."""
    return _NOT_NOW.search(str(error)) is not None


def _is_distrusted(error: BaseException) -> bool:
    """Whether a certificate was refused, on either side."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def translated(error: BaseException, *, shown: str) -> VoiceflowError:
    """This error as one of this library. `shown` is the store's URL without secrets.

    After a `StoreUnavailableError` it is unknown whether a write was made; the same write again shows it.
    """
    said = str(error).strip() or type(error).__name__
    where = f"the Redis at {shown}"
    match error:
        case VoiceflowError():
            return error
        case BaseExceptionGroup():
            return translated(error.exceptions[0], shown=shown)
        case driver.ReplicationError() | driver.PersistenceError():
            return StoreUnavailableError(
                f"{where} took a write, but did not confirm in time that it is kept ({said}); it counts as not made "
                "until asking again confirms it"
            )
        case driver.AuthenticationError() | driver.AuthorizationError():
            return StoreUnavailableError(
                f"{where} refuses this user ({said}); check the user name and password in the store URL, and that this "
                "user may run EVAL and EVALSHA and the commands of the scripts on all keys that begin with the prefix",
                passes=False,
            )
        case _ if isinstance(error, LOST):
            cause = str(error.__cause__ or "").strip()
            message = f"{where} cannot be reached ({said}{': ' if cause else ''}{cause})"
            return StoreUnavailableError(message, passes=not _is_distrusted(error))
        case _:
            return _answered(error, said, where)


def _answered(error: BaseException, said: str, where: str) -> StoreError:
    """An error that the server answered with. For an error inside a script, its code is somewhere in the text."""
    if re.search(r"\bOOM\b", said):
        return StoreReadOnlyError(
            f"{where} is out of memory and takes no writes ({said}); raise its maxmemory (CONFIG SET maxmemory), or "
            f"{Remedy.SHORTEN_RETENTION}"
        )
    if re.search(r"\bMISCONF\b", said):
        return StoreReadOnlyError(
            f"{where} cannot write to its disk and takes no writes ({said}); free space, or mend that server's disk"
        )
    if isinstance(error, driver.ReadOnlyError) or "READONLY" in said:
        return StoreUnavailableError(
            f"{where} is a read-only replica now ({said}); the primary is looked for again. If this stays, the store "
            "URL names a replica: give the primary's address, or use redis+sentinel://"
        )
    if isinstance(error, driver.WrongTypeError) or re.search(r"\bWRONGTYPE\b", said):
        return StoreCorruptError(
            f"{where} has something else under the keys of this store ({said}); give the store a database of its own, "
            "or a prefix of its own (?prefix=)"
        )
    if isinstance(error, (driver.AskError, driver.ClusterCrossSlotError)) or re.search(r"\b(MOVED|CROSSSLOT)\b", said):
        return StoreUnavailableError(
            f"{where} is a node of a Redis Cluster ({said}); write redis+cluster://host:port", passes=False
        )
    if isinstance(error, (driver.SentinelError, driver.RedisClusterError)) or _NOT_NOW.search(said):
        return StoreUnavailableError(f"{where} does not answer now ({said})")
    if isinstance(error, (driver.ResponseError, driver.RedisError)):
        return StoreError(f"{where} refused a command that should work ({said}); is it Redis 6.2 or newer, or Valkey?")
    return StoreUnavailableError(f"{where} could not be used ({type(error).__name__}: {said})")
