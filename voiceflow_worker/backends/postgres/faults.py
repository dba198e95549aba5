"""The translation of errors of PostgreSQL, libpq and poolers into errors of this library."""

from __future__ import annotations

import re
from collections.abc import Mapping

import psycopg

from voiceflow_worker.backends.postgres.url import PostgresURL
from voiceflow_worker.backends.record import unstorable
from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    VoiceflowError,
)
from voiceflow_worker.model.text.printable import printable_line, without_secrets_in

ANOTHER_STORE = "VW003"
"""The error of `write.sql` for a bulk write of another store."""
_ROLLED_BACK = frozenset({"40P01", "40001", "XX001", "XX002"})
"""The states after which a statement is tried again: it came in the wrong order, or read something wrong,
which a disk may do once."""
_LONGEST = 400
"""The longest message of a server that is repeated."""

_LACKS = StoreCorruptError, False, "let the owner of the store run `voiceflow doctor --make`"
_BUSY = StoreUnavailableError, True, "look for what keeps it busy (pg_stat_activity, its log), then try again"
_BY_STATE: Mapping[str, tuple[type[StoreError], bool, str]] = {
    ANOTHER_STORE: (StoreUnavailableError, True, "find out where the name or the pooler leads to"),
    "25006": (StoreReadOnlyError, True, "it accepts no writes: give the primary's address, or turn off read-only"),
    "25000": (StoreError, False, "set default_transaction_isolation to 'read committed' for this role"),
    "42501": (StoreReadOnlyError, False, "give this role the rights in docs/stores.md (GRANT)"),
    "53100": (StoreFullError, True, "free space on its disk"),
    **dict.fromkeys(("42P01", "42883", "42703", "3F000"), _LACKS),
    "28": (StoreUnavailableError, False, "check the user and the password in the store URL"),
    "3D": (StoreUnavailableError, False, "check the database in the store URL"),
    **dict.fromkeys(("25P", "40", "53", "55", "57", "58"), _BUSY),
    "XX": (StoreCorruptError, False, "restore the server from a backup"),
}
"""By SQLSTATE, or by how it begins: the error, whether waiting may help, and the remedy."""
_NEEDS_A_PERSON = re.compile(
    r"password|authenti|no such user|role \".*\" (does not exist|is not permitted)|pg_hba\.conf|no such database|"
    r"database \".*\" (does not exist|is not currently accepting)|permission denied|does not allow|bouncer config|"
    r"certificate|SSL error|not support SSL|sslmode|startup parameter|parameter|invalid port|invalid .*value",
    re.IGNORECASE,
)
"""Words of libpq or a pooler about a connection that will not become right by waiting. They have no SQLSTATE then."""


def is_rolled_back(error: BaseException) -> bool:
    """Return True if the server has certainly undone the statement, and it may be made again as it was.

    A bulk write that has its locks gives them back after a short wait for another transaction, and is made again. One
    that has waited long for its locks is not.
    """
    if not isinstance(error, psycopg.Error):
        return False
    had_locks = error.sqlstate == "55P03" and "answers(" in (error.diag.context or "")
    return had_locks or error.sqlstate in _ROLLED_BACK


def translated(error: BaseException, url: PostgresURL) -> VoiceflowError:
    """Translate an error. After a StoreUnavailableError, a write may or may not have been made."""
    where = f"the PostgreSQL at {url.shown}"
    if isinstance(error, VoiceflowError):
        return error
    if isinstance(error, UnicodeEncodeError):
        return unstorable(error)
    if isinstance(error, TimeoutError):
        return StoreUnavailableError(
            f"{where} did not answer in time; check that it runs and is not overloaded, and look for transactions that "
            "stay open (pg_stat_activity)"
        )
    said = _said(error, url)
    state = str(getattr(error, "sqlstate", None) or "08")
    for known in (state, state[:3], state[:2]):
        if known in _BY_STATE:
            kind, passes, remedy = _BY_STATE[known]
            failed = kind(f"{where} reports: {said}; {remedy}")
            failed.passes = passes
            return failed
    if isinstance(error, psycopg.OperationalError | OSError):
        return StoreUnavailableError(
            f"there is no connection to {where} ({said}); check that it runs, and the host, the port, the user and the "
            "password of the store URL",
            passes=not _NEEDS_A_PERSON.search(said),
        )
    return StoreError(f"{where} refused a statement ({said}); report this as a bug, with its version")


def _said(error: BaseException, url: PostgresURL) -> str:
    """Return the server's message, on one line and without secrets."""
    text = (error.diag.message_primary if isinstance(error, psycopg.Error) else None) or str(error)
    lines = dict.fromkeys(line.strip() for line in text.splitlines())
    text = "; ".join(filter(None, lines)) or type(error).__name__
    return printable_line(without_secrets_in(text, known=url.secrets))[:_LONGEST]
