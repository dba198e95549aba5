"""The translation of errors of PostgreSQL, libpq and poolers into errors of this library."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

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

TOO_LATE = "VW004"
"""What `write.sql` raises if the time of a write was over before its commit."""
ANOTHER_STORE = "VW003"
"""What `write.sql` raises for a bulk write of another store."""
_ROLLED_BACK = frozenset({"40P01", "40001", "XX001", "XX002", TOO_LATE})
"""What is tried again: it came too late or in the wrong order, or what was read was wrong, which a disk may do once."""
_LONGEST = 400
"""The longest message of a server that is repeated."""

STANDBY = (
    "is a standby, which accepts no writes; give the primary's address, or name all hosts and "
    "target_session_attrs=read-write in the store URL"
)


def _for_good(message: str) -> StoreUnavailableError:
    return StoreUnavailableError(message, passes=False)


def _denied(message: str) -> StoreError:
    error = StoreReadOnlyError(message)
    error.passes = False
    return error


_ELSEWHERE = (
    "leads to another store now than the one that this process has opened, so nothing is stored or sent; find out "
    "where the pooler leads to"
)
_READ_ONLY = (
    "accepts no writes: it is a standby, or default_transaction_read_only is on. Give the primary's address, or turn "
    "that setting off"
)
_ISOLATION = (
    "begins transactions in which the store would check what is out of date; set default_transaction_isolation to "
    "'read committed' for this role"
)
_GRANTS = (
    "does not allow this role to do that; let the owner of the store run the GRANTs that `voiceflow doctor --make` "
    "prints"
)
_LOCKED = (
    "waited too long for a lock: another transaction has stored the same call, or holds the store, and is still open; "
    "find it in pg_stat_activity, and end it"
)
_CANCELLED = (
    "cancelled a statement: its statement_timeout is too short for the store, or somebody cancelled it; set "
    "statement_timeout to 60 s or more for this role"
)
_LACKS = (
    "lacks a table or a function of the store: it was not made, or not by this version; let its owner run "
    "`voiceflow doctor --make`"
)
_LIMIT = "is at a limit of its settings (max_connections, max_locks_per_transaction); raise it"
_ORDER = "could not order this change among others in several tries; try again in a moment"
_CLOSED = "closed the connection; try again in a moment"
_BY_STATE: Mapping[str, tuple[Callable[[str], StoreError], str]] = {
    ANOTHER_STORE: (StoreUnavailableError, _ELSEWHERE),
    "25006": (StoreReadOnlyError, _READ_ONLY),
    "25000": (StoreError, _ISOLATION),
    "42501": (_denied, _GRANTS),
    "53100": (StoreFullError, "has no room on its disk; free space on that disk, or give it a larger one"),
    "55P03": (StoreUnavailableError, _LOCKED),
    "57014": (StoreUnavailableError, _CANCELLED),
    **dict.fromkeys(("42P01", "42883", "42703", "3F000"), (StoreCorruptError, _LACKS)),
    "25P": (StoreUnavailableError, _CLOSED),
    "28": (_for_good, "refuses this role; check the user and the password in the store URL"),
    "3D": (_for_good, "has no such database any more; create it, or correct the store URL"),
    "40": (StoreUnavailableError, _ORDER),
    "53": (StoreUnavailableError, _LIMIT),
    "57": (StoreUnavailableError, _CLOSED),
    "58": (StoreUnavailableError, "cannot read or write its disk; check it (dmesg) and the log of the server"),
    "XX": (StoreCorruptError, "has damaged data; restore the server from a backup"),
}
"""By SQLSTATE, or by how it begins: what it means, and what the server does. These codes are the same in each language.

libpq has no codes while it connects, and poolers have one for all: their own words are repeated.
"""
_NEEDS_A_PERSON = re.compile(
    r"password|authenti|no such user|role \".*\" (does not exist|is not permitted)|pg_hba\.conf|no such database|"
    r"database \".*\" (does not exist|is not currently accepting)|permission denied|does not allow|bouncer config|"
    r"certificate|SSL error|not support SSL|sslmode|startup parameter|parameter|invalid port|invalid .*value",
    re.IGNORECASE,
)
"""What libpq or a pooler says of a connection that will not become right by waiting."""


def is_rolled_back(error: BaseException) -> bool:
    """Return True if the server has certainly undone the statement, and it may be made again as it was.

    A bulk write that has its locks gives them back after a short wait for another transaction, and is made again. One
    that has waited long for its locks is not.
    """
    if not isinstance(error, psycopg.Error):
        return False
    had_locks = error.sqlstate == "55P03" and "answers(" in (error.diag.context or "")
    return had_locks or error.sqlstate in _ROLLED_BACK


def may_be_committed(error: BaseException) -> bool:
    """Return True if a statement that ended with this error may be committed: the server has not said otherwise."""
    state = str(getattr(error, "sqlstate", None) or "08")
    return not isinstance(error, UnicodeEncodeError) and state.startswith(("08", "57P0"))


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
    state = str(getattr(error, "sqlstate", None) or "08")
    for known in (state, state[:3], state[:2]):
        if known in _BY_STATE:
            kind, sentence = _BY_STATE[known]
            return kind(f"{where} {sentence} ({_said(error, url)})")
    if isinstance(error, psycopg.OperationalError | OSError):
        said = _said(error, url)
        return StoreUnavailableError(
            f"there is no connection to {where} ({said}); check that it runs, and the host, the port, the user and the "
            "password of the store URL",
            passes=not _NEEDS_A_PERSON.search(said),
        )
    said = _said(error, url, and_where=True)
    return StoreError(f"{where} refused a statement ({said}); report this as a bug, with its version")


def _said(error: BaseException, url: PostgresURL, *, and_where: bool = False) -> str:
    """Return what the server said, on one line and without secrets, and if asked for, where in our functions."""
    text = str(error)
    if isinstance(error, psycopg.Error) and error.diag.context and not and_where:
        text = "\n".join(filter(None, [error.diag.message_primary, error.diag.message_detail, error.diag.message_hint]))
    lines = dict.fromkeys(line.strip() for line in text.splitlines())
    text = "; ".join(filter(None, lines)) or type(error).__name__
    text = printable_line(without_secrets_in(text, known=url.secrets))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
