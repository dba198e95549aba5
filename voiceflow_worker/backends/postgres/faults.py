"""The translation of errors of PostgreSQL, libpq and poolers into errors of this library."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

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
_ROLLED_BACK = frozenset({"40P01", "40001", "XX001", "XX002", TOO_LATE})
"""What is tried again: it came too late or in the wrong order, or what was read was wrong, which a disk may do once."""
_LONGEST = 400
"""The longest message of a server that is repeated."""

STANDBY = (
    "is a standby, which accepts no writes; give the primary's address, or name all hosts and "
    "target_session_attrs=read-write in the store URL"
)


class _Kind(NamedTuple):
    """A kind of fault: what the server or libpq says (a pattern), what that means, and what to do."""

    pattern: str
    sentence: str
    error: Callable[[str], StoreError] = StoreUnavailableError


def _for_good(message: str) -> StoreUnavailableError:
    return StoreUnavailableError(message, passes=False)


def _denied(message: str) -> StoreError:
    error = StoreReadOnlyError(message)
    error.passes = False
    return error


ANOTHER_STORE = "VW003"
"""What `write.sql` raises for a bulk write of another store."""
_GRANTS = "let the owner of the store run the GRANTs that `voiceflow doctor --make` prints"
_KINDS_BY_STATE = (
    _Kind(
        ANOTHER_STORE,
        "leads to another store now than the one that this process has opened, so nothing is stored or sent; find out "
        "where the pooler leads to",
    ),
    # Without room, nothing can be deleted either.
    _Kind("53100", "has no room on its disk; free space on that disk, or give it a larger one", StoreFullError),
    _Kind("53200", "is out of memory for this; raise its max_locks_per_transaction, or its memory"),
    _Kind("53300|53400", "has no connection left; raise its max_connections, or put pgbouncer before it"),
    _Kind("40P01|40001", "could not order this change among others in several tries; try again in a moment"),
    _Kind(
        "55P03",
        "waited too long for a lock: another transaction has stored the same call, or holds the store, and is still "
        "open; find it in pg_stat_activity, and end it",
    ),
    _Kind(
        "57014",
        "cancelled a statement: its statement_timeout is too short for the store, or somebody cancelled it; set "
        "statement_timeout to 60 s or more for this role",
    ),
    _Kind("57P04|3D000", "has no such database any more; create it, or correct the store URL", _for_good),
    _Kind("57P0[125]|25P0[34]", "closed the connection; try again in a moment"),
    _Kind("57P03", "cannot answer now; try again in a moment"),
    _Kind(
        "25006",
        "accepts no writes: it is a standby, or default_transaction_read_only is on. Give the primary's address, or "
        "turn that setting off",
        StoreReadOnlyError,
    ),
    _Kind(
        "25000",
        "begins transactions in which the store would check what is out of date; set default_transaction_isolation to "
        "'read committed' for this role",
        StoreError,
    ),
    _Kind("42501", f"does not allow this role to do that; {_GRANTS}", _denied),
    _Kind(
        "42P01|42883|42703|3F000",
        "lacks a table or a function of the store: it was not made, or not by this version; let its owner run "
        "`voiceflow doctor --make`",
        StoreCorruptError,
    ),
    _Kind("58030", "cannot read or write its disk; check it (dmesg) and the log of the server"),
    _Kind("XX00[12]", "has damaged data; restore the server from a backup", StoreCorruptError),
    _Kind("28...", "refuses this role; check the user and the password in the store URL", _for_good),
)
"""By SQLSTATE, which servers give after the login. These codes are the same in each language."""

_KINDS_BY_TEXT = (
    _Kind(
        r"unsupported startup parameter",
        "is behind a pooler that refuses a parameter of the connection; take it out of the store URL, or add it to "
        "ignore_startup_parameters of pgbouncer",
        _for_good,
    ),
    _Kind(
        r"too many (clients|connections)|connection slots|no more connections|max_client_conn|"
        r"client connections.*exceeded",
        "has no connection left; raise max_connections of PostgreSQL or max_client_conn of pgbouncer, or put pgbouncer "
        "before PostgreSQL",
    ),
    _Kind(
        r"query_wait_timeout",
        "is behind a pooler that had no free connection for this statement in time; raise its default_pool_size, and "
        "look for transactions that stay open",
    ),
    _Kind(
        r"server login has been failing|cannot connect to server|server conn crashed|server_login_retry",
        "is behind a pooler that cannot reach it; check PostgreSQL, and the log of the pooler",
    ),
    _Kind(
        r"bouncer config error|no username supplied|does not allow connections",
        "is behind a pooler that is not set up for this database or this user; look into the log of pgbouncer, and "
        "correct its [databases], [users] or auth_file",
        _for_good,
    ),
    _Kind(
        r"permission denied for database|not currently accepting connections|invalid database",
        "lets nobody, or not this role, into this database; let its owner run GRANT CONNECT, or ALTER DATABASE … "
        "ALLOW_CONNECTIONS true",
        _for_good,
    ),
    _Kind(
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "does not let this role in from this address; add a line to its pg_hba.conf, and reload it",
        _for_good,
    ),
    _Kind(
        r"database \".*\" does not exist|no such database",
        "has no such database; create it (CREATE DATABASE …), or correct the name in the store URL",
        _for_good,
    ),
    _Kind(
        r"starting up|shutting down|recovery mode|not yet accepting|in recovery|pause",
        "cannot answer now; try again in a moment",
    ),
    _Kind(r"session is (not )?read-only|hot standby mode|not a standby", STANDBY),
    _Kind(
        r"does not support SSL|certificate|SSL error|sslmode|SSL_|tlsv1|SSL connection.*required|no encryption",
        "could not be reached over TLS as asked; check sslmode, sslrootcert and sslcert of the store URL",
        _for_good,
    ),
    _Kind(
        r"password|authenti|no such user|role \".*\" (does not exist|is not permitted)|SASL|SCRAM|Ident|GSSAPI",
        "refuses this role; check the user and the password: those of the store URL, PGPASSWORD or ~/.pgpass",
        _for_good,
    ),
    _Kind(
        r"resolve host|host name|Name or service|nodename",
        "has a host name that cannot be resolved; check the name in the store URL, and DNS",
    ),
    _Kind(
        r"refused|No such file or directory|timeout expired|unreachable|No route|reset by peer|timed out",
        "cannot be reached; check that it runs, and check the host and the port of the store URL",
    ),
    _Kind(
        r"invalid .*value|invalid port|could not parse|unrecognized configuration parameter|cannot be (set|changed)|"
        r"permission denied to set parameter",
        "does not take a parameter of the connection; correct it in the store URL",
        _for_good,
    ),
    _Kind(r"connection failed|FATAL", "refuses the connection; do what it says"),
)
"""By the text of libpq, of a pooler, or of a server before the login."""


def is_rolled_back(error: BaseException) -> bool:
    """Whether the server has certainly undone the statement, and it may be made again as it was.

    A bulk write that has its locks gives them back after a short wait for another transaction, and is made again. One
    that has waited long for its locks is not.
    """
    if not isinstance(error, psycopg.Error):
        return False
    had_locks = error.sqlstate == "55P03" and "answers(" in (error.diag.context or "")
    return had_locks or error.sqlstate in _ROLLED_BACK


def may_be_committed(error: BaseException) -> bool:
    """Whether a statement that ended with this error may be committed: the server did not say that it has undone it."""
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
    said = _said(error, url)
    state = str(getattr(error, "sqlstate", None) or "08")
    by_text = state.startswith("08")  # libpq has no codes, and poolers have one for all
    for kind in _KINDS_BY_TEXT if by_text else _KINDS_BY_STATE:
        if re.search(kind.pattern, said, re.IGNORECASE) if by_text else re.fullmatch(kind.pattern, state):
            return kind.error(f"{where} {kind.sentence} ({said})")
    if isinstance(error, psycopg.OperationalError | OSError):
        return StoreUnavailableError(f"the connection to {where.removeprefix('the ')} was lost ({said}); try again")
    said = _said(error, url, and_where=True)
    return StoreError(f"{where} refused a statement ({said}); report this as a bug, with its version")


def _said(error: BaseException, url: PostgresURL, *, and_where: bool = False) -> str:
    """What the server said, on one line and without secrets, and if asked for, where in our functions it happened."""
    text = str(error)
    if isinstance(error, psycopg.Error) and error.diag.context and not and_where:
        text = "\n".join(filter(None, [error.diag.message_primary, error.diag.message_detail, error.diag.message_hint]))
    lines = dict.fromkeys(line.strip() for line in text.splitlines())
    text = "; ".join(filter(None, lines)) or type(error).__name__
    text = printable_line(without_secrets_in(text, known=url.secrets))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
