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
_ANSWERS: tuple[tuple[re.Pattern[str], type[StoreError], bool, str], ...] = (
    (
        re.compile(r"^(ERR )?AUTH\b|invalid (password|username)|^(NOAUTH|WRONGPASS)\b"),
        StoreUnavailableError,
        False,
        "check the user name and password in the store URL",
    ),
    (_FORBIDDEN, StoreUnavailableError, False, "give this user the rights in docs/stores.md (ACL SETUSER)"),
    (re.compile(r"\bOOM\b"), StoreReadOnlyError, True, "raise its maxmemory (CONFIG SET maxmemory)"),
    (re.compile(r"\bMISCONF\b"), StoreReadOnlyError, True, "free space on its disk, or repair it"),
    (
        re.compile("READONLY"),
        StoreUnavailableError,
        True,
        "it is a replica: give the primary's address, or use redis+sentinel://",
    ),
    (
        re.compile(r"\bWRONGTYPE\b"),
        StoreCorruptError,
        False,
        "another program has keys of these names: give the store its own database or prefix (?prefix=)",
    ),
    (_NOT_NOW, StoreUnavailableError, True, "it cannot answer now; try again in a moment"),
)
"""What a server answers, the error that it means, whether waiting may help, and the remedy."""
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


def is_not_now(error: BaseException) -> bool:
    """Return True if the server cannot answer at the moment, for example while it loads its data."""
    return _NOT_NOW.search(text_of(error)) is not None


def is_lost(error: BaseException) -> bool:
    """Return True if all connections must be opened again.

    One is lost, the server is a replica now, or the user has lost a right: the opening then names all of them.
    """
    if isinstance(error, ResponseError):
        return "READONLY" in text_of(error) or _FORBIDDEN.search(text_of(error)) is not None
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
            "Look for a slow disk, and for replicas that are away (INFO replication)"
        )
    for pattern, kind, passes, remedy in _ANSWERS:
        if pattern.search(said):
            failed = kind(f"{where} reports: {said}; {remedy}")
            failed.passes = passes
            return failed
    if isinstance(error, ResponseError):
        return StoreError(f"{where} refused a command ({said}); check that it is Redis 6.2 or newer, or Valkey")
    return StoreUnavailableError(
        f"{where} cannot be reached ({said}); check that it runs, and the host and the port of the store URL. A port "
        "with TLS needs rediss:// (with sentinels tls=yes), and one without TLS redis://",
        passes=not _is_distrusted(error),
    )


def _is_distrusted(error: BaseException | None) -> bool:
    """Return True if the error comes from a certificate that was refused."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
