"""A connection to a SQLite file, with the few operations that this backend uses, and its errors."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import apsw

from voiceflow_worker.backends.record import unstorable
from voiceflow_worker.backends.store_url import statements
from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

SQL = statements("voiceflow_worker.backends.sqlite", "write.sql", "lease.sql", "read.sql", "restore.sql")
"""The statements in the files of this folder, by their names."""

BUSY = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)
"""Errors while another connection has the file locked. The same operation may succeed later. (ProtocolError is a race
for the locks of the WAL.)"""


def is_failed_flush(error: BaseException) -> bool:
    """Return True if the disk did not confirm a flush of what was written."""
    code: object = getattr(error, "extendedresult", None)  # apsw's stubs do not have it
    return code == apsw.SQLITE_IOERR_FSYNC


def passes(error: BaseException) -> bool:
    """Return True if the same operation may succeed later: the file is locked, or its disk fails for now."""
    return isinstance(error, BUSY) or (isinstance(error, apsw.IOError) and not is_failed_flush(error))


def translated(error: Exception, path: Path) -> Exception:
    """Translate an error of SQLite about this file. Any other error is returned as it is."""
    match error:
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            return StoreUnavailableError(
                f"the store {path} is locked: another process is writing to it. Nothing was changed. Try again. If the "
                "store stays locked, find the process that locks it (lsof)."
            )
        case apsw.FullError():
            return StoreFullError(
                f"the disk of the store {path} is full. Nothing was changed. Free space on the disk, and try again."
            )
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return read_only(path)
        case apsw.NotADBError():
            return not_sqlite(path)
        case apsw.CorruptError():
            return damaged(path, str(error))
        case apsw.CantOpenError():
            return _cannot_open(path)
        case apsw.IOError():
            return StoreUnavailableError(
                f"reading or writing the store {path} failed ({error}). Check the disk and its free space (dmesg, df), "
                "then try again."
            )
        case UnicodeEncodeError():
            return unstorable(error)
        case apsw.Error():
            return StoreError(f"an operation of SQLite on {path} failed: {type(error).__name__}: {error}")
        case _:
            return error


@contextmanager
def translating(path: Path) -> Generator[None]:
    try:
        yield
    except (apsw.Error, UnicodeEncodeError) as error:
        raise translated(error, path) from error


def read_only(path: Path) -> StoreReadOnlyError:
    return StoreReadOnlyError(
        f"the store {path} cannot be written: the file, its directory or its file system is read-only for this user. "
        "Nothing was changed. Allow this user to write the file and to make files in its directory, or name another "
        "path."
    )


def not_sqlite(path: Path) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path} is not a voiceflow store: it is not an SQLite file. Nothing was changed. Check the path, or name "
        "a new file."
    )


def damaged(path: Path, found: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"the store {path} is damaged, or its disk fails ({found}). Nothing was changed. Stop all processes that use "
        "it, check the disk (dmesg), then restore a backup (`voiceflow restore FILE`). Without one, recover what can "
        f"be read: sqlite3 {path} .recover | sqlite3 recovered.db"
    )


def _cannot_open(path: Path) -> StoreError:
    if os.access(path.parent, os.R_OK) and not os.access(path.parent, os.W_OK):
        return read_only(path)
    why = "" if path.parent.is_dir() else f": the directory {path.parent} does not exist"
    return StoreUnavailableError(
        f"cannot open the store {path}{why}. Nothing was changed. Name a file that this user may "
        "read and write, in a directory that exists.",
        passes=not path.is_dir(),
    )


_MOST_FINDINGS = 3
_PAGES_OF_LOG = 1000
"""The number of pages from which on a WAL is long, and should be moved into the file. SQLite's default is the same."""

_ROWS_AT_ONCE = 32

Row = tuple[Any, ...]
Bindings = Sequence[Any] | Mapping[str, Any]


@lru_cache(maxsize=256)
def _of_rows(statement: str, rows: int, values: int) -> str:
    row = f"({', '.join('?' * values)})"
    return statement.replace("{rows}", ", ".join([row] * rows))


class Connection:
    """A typed wrapper of an apsw connection. It raises apsw's errors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Any, because apsw's stubs use types that type checkers cannot resolve for Python 3.11.
        self._db: Any = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        # Plans must not depend on the bound values. Otherwise SQLite plans a join again for each row, because its
        # statistics might suggest another plan. This takes 20 µs instead of 2.
        self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        self.is_log_long: bool = False
        """Whether the WAL was long at the last commit of this connection, if `leave_log` was called."""

    def run(self, statements: str, bindings: Bindings = ()) -> None:
        self._db.execute(statements, bindings or None)

    def insert(self, statement: str, rows: Sequence[Row]) -> None:
        """Execute an insertion of many rows, `{rows}` in it, which all have as many values."""
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            self._db.execute(_of_rows(statement, len(some), len(some[0])), tuple(chain.from_iterable(some)))

    def run_each(self, statement: str, many: Iterable[Sequence[Any]]) -> None:
        self._db.executemany(statement, many)

    def rows(self, statement: str, bindings: Bindings = ()) -> list[Row]:
        rows: list[Row] = self._db.execute(statement, bindings).fetchall()
        return rows

    def rows_of_each(self, statement: str, many: Iterable[Sequence[Any]]) -> list[Row]:
        """Return all rows that a statement returns for each set of bindings, in the order of the sets."""
        rows: list[Row] = self._db.executemany(statement, many).fetchall()
        return rows

    def pragma(self, name: str, value: object = None) -> Any:
        return self._db.pragma(name, value) if value is not None else self._db.pragma(name)

    def keep_log(self) -> None:
        """Keep the WAL in its own file when this connection closes, even if it is the last connection."""
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)

    def sync_commits(self, *, wanted: bool) -> None:
        self._db.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}", None, can_cache=False)

    def leave_log(self) -> None:
        """Let no commit move the WAL into the file. Each commit updates `is_log_long`; then call `move_log`."""
        self._db.set_wal_hook(self._note_log)  # in place of SQLite's own hook, which would move it

    def _note_log(self, _: object, __: str, pages: int) -> int:
        self.is_log_long = pages >= _PAGES_OF_LOG
        return int(apsw.SQLITE_OK)

    def move_log(self) -> None:
        """Move as much of the WAL into the file as other connections allow. What is left, or has failed, stays."""
        with suppress(apsw.Error):
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def empty_log(self) -> None:
        """Move the whole WAL into the file, and empty the WAL. Raises BusyError while another connection uses it."""
        [(is_busy, _, _)] = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        if is_busy:
            raise apsw.BusyError("the -wal file is being read or written")

    def findings(self) -> str:
        """Return what SQLite finds wrong in the file, of which it reads all; empty for nothing."""
        found = [str(row[0]) for row in self.rows(f"PRAGMA integrity_check({_MOST_FINDINGS})")]
        return "" if found == ["ok"] else " ".join("; ".join(found).replace("*** in database main ***", "").split())

    @property
    def in_transaction(self) -> bool:
        return bool(self._db.in_transaction)

    @property
    def is_read_only(self) -> bool:
        return bool(self._db.readonly("main"))

    def close(self) -> None:
        """Close the connection. The last connection to a file moves the WAL into the file."""
        self._db.close()
