"""The translation of errors of redis-py into errors of this library."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)


class UnreadableError(ConnectionError):
    """An answer in an unexpected form. The next one on its connection may belong to another request."""


class NotConfirmedError(Exception):
    """Too few servers have confirmed a write in time."""


# An error inside a script has its code in the middle of the text. Redis 6.2 says the second, newer servers the third.
_FORBIDDEN = re.compile(r"\bNOPERM\b|user executing the script can't|\bACL failure in script\b")
_NOT_NOW = re.compile(r"\b(LOADING|BUSY|MASTERDOWN|NOREPLICAS|UNBLOCKED|UNKILLABLE|NOQUORUM)\b")
_REFUSED_USER = re.compile(r"^(ERR )?AUTH\b|invalid (password|username)|^(NOAUTH|WRONGPASS)\b")
_UNREACHABLE = (
    "check that it runs, and the host and the port of the store URL. A port with TLS needs rediss:// (with sentinels "
    "tls=yes), and one without TLS redis://"
)
_FULL = (
    "is out of memory and accepts no writes ({said}); raise its maxmemory (CONFIG SET maxmemory), or delete what other "
    "programs keep there. What it has can be read"
)
_NO_DISK = "cannot write to its disk and accepts no writes ({said}); free space on that disk, or repair it"
_REPLICA = (
    "is a read-only replica now ({said}); the connection is reopened. If the error continues, the store URL names a "
    "replica: give the primary's address, or use redis+sentinel://"
)
_OTHER_KEYS = (
    "has keys of another program with the names that this store uses ({said}); give the store its own database or its "
    "own prefix (?prefix=)"
)
_ANSWERS: tuple[tuple[str, type[StoreError], str], ...] = (
    (r"\bOOM\b", StoreReadOnlyError, _FULL),
    (r"\bMISCONF\b", StoreReadOnlyError, _NO_DISK),
    (r"READONLY", StoreUnavailableError, _REPLICA),
    (r"\bWRONGTYPE\b", StoreCorruptError, _OTHER_KEYS),
    (_NOT_NOW.pattern, StoreUnavailableError, "cannot answer now ({said}); try again in a moment"),
    ("", StoreError, "refused a command ({said}); check that it is Redis 6.2 or newer, or Valkey"),
)
"""What a server answers, the error that it means, and its sentence. The first row that matches counts."""


_CODES: Mapping[type[BaseException], str] = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
    NoPermissionError: "NOPERM",
    AuthenticationError: "NOAUTH",
}


def text_of(error: BaseException) -> str:
    """Return the answer of a server as it was sent: redis-py cuts off the code of errors that it knows."""
    code = _CODES.get(type(error), "")
    said = str(error).strip() or type(error).__name__
    return said if said.startswith(code) else f"{code} {said}"


def is_forbidden(error: BaseException) -> bool:
    """Return True if the server refuses a command or a key to this user."""
    return isinstance(error, NoPermissionError) or _FORBIDDEN.search(str(error)) is not None


def is_not_now(error: BaseException) -> bool:
    """Return True if the server cannot answer at the moment, for example while it loads its data."""
    return isinstance(error, BusyLoadingError) or _NOT_NOW.search(text_of(error)) is not None


def is_lost(error: BaseException) -> bool:
    """Return True if all connections must be opened anew.

    One is lost, the server is a replica now, or the user has lost a right: the opening then names all of them.
    """
    if isinstance(error, ResponseError):
        return isinstance(error, ReadOnlyError) or "READONLY" in str(error) or is_forbidden(error)
    return not isinstance(error, NotConfirmedError)


def translated(error: BaseException, *, shown: str) -> StoreError:
    """Translate an error. `shown` is the store's URL without secrets.

    After a StoreUnavailableError, a write may or may not have been made. Repeating the same write shows whether it was
    made.
    """
    said = text_of(error)
    where = f"the Redis at {shown}"
    if isinstance(error, NotConfirmedError):
        return StoreUnavailableError(
            f"{where} did not confirm in time that a write is durable ({said}); the write may be lost, so try again. "
            "If that goes on, look for a slow disk, and for replicas that are away (INFO replication): start them, or "
            "lower `replicas` in the store URL"
        )
    if isinstance(error, AuthenticationError) or _REFUSED_USER.search(said):
        return StoreUnavailableError(
            f"{where} refuses this user ({said}); check the user name and password in the store URL", passes=False
        )
    if is_forbidden(error):
        return StoreUnavailableError(
            f"{where} does not let this user do what the store needs ({said}); let whoever runs it add the rights in "
            "docs/stores.md (ACL SETUSER)",
            passes=False,
        )
    if isinstance(error, ResponseError) or is_not_now(error):
        for pattern, kind, sentence in _ANSWERS:
            if re.search(pattern, said):
                return kind(f"{where} {sentence.format(said=said)}")
    return StoreUnavailableError(
        f"{where} cannot be reached ({said}); {_UNREACHABLE}", passes=not _is_distrusted(error)
    )


def _is_distrusted(error: BaseException | None) -> bool:
    """Return True if the error comes from a certificate that was refused."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
