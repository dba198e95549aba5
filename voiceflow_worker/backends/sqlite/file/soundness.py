"""Checks that a file is a complete and undamaged store."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from voiceflow_worker.backends.sqlite.file.connection import Connection
from voiceflow_worker.backends.sqlite.file.faults import damaged
from voiceflow_worker.backends.sqlite.file.statements import script

SMALL = 4 * 1024 * 1024
"""The size, in bytes, up to which a file is checked completely each time it is opened. The check takes 20 ms."""
_MOST_FINDINGS = 3


@cache
def parts() -> frozenset[str]:
    """The names of all tables and indexes of a store."""
    return frozenset(re.findall(r"^CREATE (?:TABLE|(?:UNIQUE )?INDEX) (\w+)", script("schema"), re.MULTILINE))


def require_parts(db: Connection, path: Path) -> None:
    """Raise StoreCorruptError if a table or an index of the store is missing."""
    missing = parts() - {row[0] for row in db.rows("SELECT name FROM sqlite_schema")}
    if missing:
        raise damaged(path, f"it lacks {', '.join(sorted(missing))}")


def require_sound(db: Connection, path: Path) -> None:
    """Raise StoreCorruptError if SQLite finds the file damaged. The check reads the whole file: 5 ms a megabyte."""
    found = [str(row[0]) for row in db.rows(f"PRAGMA integrity_check({_MOST_FINDINGS})")]
    if found != ["ok"]:
        raise damaged(path, " ".join("; ".join(found).replace("*** in database main ***", "").split()))


def looks_mixed(path: Path) -> bool:
    """Whether the -wal file beside a file may belong to another file, because it is older than the file.

    The -wal file is older if a process was killed, and a backup was then copied over the store. The result is also True
    for a moment after each checkpoint; a check of the file then finds no damage.
    """
    try:
        log, file = log_of(path).stat(), path.stat()
    except FileNotFoundError:
        return False
    return log.st_size > 0 and file.st_ctime_ns > log.st_mtime_ns


def log_of(path: Path) -> Path:
    """The -wal file of a store, which holds its write-ahead log (WAL)."""
    return path.with_name(f"{path.name}-wal")


def index_of_log(path: Path) -> Path:
    """The -shm file of a store, which holds the index of its WAL."""
    return path.with_name(f"{path.name}-shm")
