"""What goes wrong with a server, in this library's own errors."""

from __future__ import annotations

import re

from coredis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError as LostConnectionError,
    PersistenceError,
    RedisError,
    ReplicationError,
)

from voiceflow_worker.errors import StoreCorruptError, StoreError, StoreReadOnlyError, StoreUnavailableError

_PASSING = re.compile(r"\b(LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|UNBLOCKED|NOGOODSLAVE|IOERR|UNKILLABLE)\b")
"""Answers that mean "not now"."""


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or the server does not answer: whatever is open to it should be opened anew."""
    return isinstance(error, (LostConnectionError, TimeoutError, OSError)) or "READONLY" in str(error)


def translated(error: BaseException, *, shown: str) -> StoreError:
    """This error as one of ours. `shown` is the store's URL without secrets.

    After a `StoreUnavailableError` nobody knows whether a write was made; asking again tells.
    """
    said = f"{error}".strip() or type(error).__name__
    where = f"the Redis at {shown}"
    match error:
        case StoreError():
            return error
        case ReplicationError() | PersistenceError():
            return StoreUnavailableError(
                f"{where} took a write, but it was not confirmed as durable in time ({said}); it counts as not made "
                "until asking again confirms it"
            )
        case AuthenticationError() | AuthorizationError():
            return StoreUnavailableError(
                f"{where} refuses this user ({said}); check the user name and password in the store URL, and that the user "
                f"may use all keys, EVALSHA, EVAL, and the commands of the scripts"
            )
        case LostConnectionError() | TimeoutError() | OSError():
            cause = f": {error.__cause__}" if error.__cause__ is not None and str(error.__cause__) else ""
            return StoreUnavailableError(f"{where} cannot be reached ({said}{cause})")
        case _:
            return _answered(error, said, where)


def _answered(error: BaseException, said: str, where: str) -> StoreError:
    """An error that the server answered with. Inside a script its code does not stand in front."""
    if re.search(r"\bOOM\b", said):
        return StoreReadOnlyError(
            f"{where} is out of memory and takes no writes ({said}); raise its maxmemory (CONFIG SET maxmemory …), or let "
            "old jobs be pruned sooner (VOICEFLOW_RETENTION)"
        )
    if re.search(r"\bMISCONF\b", said):
        return StoreReadOnlyError(
            f"{where} cannot write to its disk and takes no writes ({said}); free space or mend the disk of that server"
        )
    if "READONLY" in said:
        return StoreUnavailableError(
            f"{where} is a read-only replica now ({said}); the connection is opened anew to find the primary. If this "
            "stays, the store URL names a replica: give the primary's address, or redis+sentinel://"
        )
    if re.search(r"\bWRONGTYPE\b", said):
        return StoreCorruptError(
            f"{where} has something else under the keys of this store ({said}); give the store a database or a prefix of "
            "its own (?prefix=…)"
        )
    if re.search(r"\b(MOVED|ASK|CROSSSLOT)\b", said):
        return StoreUnavailableError(
            f"{where} is a node of a Redis Cluster ({said}); write redis+cluster://host:port"
        )
    if _PASSING.search(said) or isinstance(error, RedisError):
        return StoreUnavailableError(f"{where} does not answer now ({said})")
    return StoreUnavailableError(f"{where} could not be used ({type(error).__name__}: {said})")
