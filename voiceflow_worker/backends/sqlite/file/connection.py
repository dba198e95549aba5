"""A connection to a SQLite file, with the few operations that this backend uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

_PAGES_OF_LOG = 1000
"""The number of pages from which on a WAL is long, and should be moved into the file. SQLite's default is the same."""

Row = tuple[Any, ...]
Bindings = Sequence[Any] | Mapping[str, Any]


class Connection:
    """A typed wrapper of an apsw connection. It raises apsw's errors."""

    def __init__(self, path: Path) -> None:
        # Any, because apsw's stubs use types that type checkers cannot resolve for Python 3.11.
        self._db: Any = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        # Plans must not depend on the bound values. Otherwise SQLite plans a join again for each row, because its
        # statistics might suggest another plan. This takes 20 µs instead of 2.
        self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        self.is_log_long: bool = False
        """Whether the WAL was long at the last commit of this connection, if `leave_log` was called."""

    def run(self, statements: str, bindings: Bindings = ()) -> None:
        """Execute statements that return no rows."""
        self._db.execute(statements, bindings or None)

    def run_each(self, statement: str, many: Iterable[Sequence[Any]]) -> None:
        """Execute one statement that returns no rows, once for each set of bindings."""
        self._db.executemany(statement, many)

    def rows(self, statement: str, bindings: Bindings = ()) -> list[Row]:
        """All rows that a statement returns."""
        rows: list[Row] = self._db.execute(statement, bindings).fetchall()
        return rows

    def rows_of_each(self, statement: str, many: Iterable[Sequence[Any]]) -> list[Row]:
        """All rows that a statement returns for each set of bindings, in the order of the sets."""
        rows: list[Row] = self._db.executemany(statement, many).fetchall()
        return rows

    def pragma(self, name: str, value: object = None) -> Any:
        """Read or set the value of a pragma."""
        return self._db.pragma(name, value) if value is not None else self._db.pragma(name)

    def copy_to(self, target: Connection, *, pages: int, progress: Callable[[int, int], None]) -> None:
        """Copy the whole database. After each step, `progress` gets the number of copied pages and the total."""
        with target._db.backup("main", self._db, "main") as copy:
            while not copy.done:
                copy.step(pages)
                progress(copy.page_count - copy.remaining, copy.page_count)

    def keep_log(self) -> None:
        """Keep the WAL in its own file when this connection closes, even if it is the last connection."""
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)

    def sync_commits(self, *, wanted: bool) -> None:
        """Choose whether commits wait for the disk."""
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

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self._db.in_transaction)

    @property
    def is_read_only(self) -> bool:
        """Whether the file could only be opened for reading."""
        return bool(self._db.readonly("main"))

    def close(self) -> None:
        """Close the connection. The last connection to a file moves the WAL into the file."""
        self._db.close()
