"""Opening the file of a store. A missing file is made, and a replaced one is noticed.

A foreign, damaged or read-only file, and a file of another version, is refused.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw

from voiceflow_worker.backends.running import check_schema
from voiceflow_worker.backends.sqlite.connection import (
    BUSY,
    Connection,
    damaged,
    not_sqlite,
    passes,
    read_only,
    translated,
    translating,
)
from voiceflow_worker.backends.store_url import sql_file
from voiceflow_worker.errors import NoStoreError, StoreCorruptError, StoreUnavailableError

Identity = tuple[int, int]
"""The device and the inode of a file. An inode is not reused while a process has the file open."""

GLANCE_EVERY = 0.1
"""Seconds between two checks, by readers, that the store's file was not replaced. A check takes 3 µs, which is too much
before each reading of a row, which takes 5 µs."""


class Identities(NamedTuple):
    """The identities of a store's file, its -wal file and its -shm file; None for a file that is missing."""

    file: Identity | None
    wal: Identity | None
    shm: Identity | None


class SameFiles:
    """The identities of the store's file, its -wal file and its -shm file, at the time when the store was opened.

    If one of these files is replaced or removed, there are two stores: this process and other processes do not see each
    other's writes. So each transaction that writes checks the files first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        real = path.resolve()  # SQLite keeps the -wal file beside the file itself, not beside a link to it
        self._log, self._index = log_of(real), index_of_log(real)
        self._files = Identities(identity(path), None, None)
        self._glanced_at = float("-inf")

    def opened(self) -> bool:
        """Record which -wal and -shm files SQLite has opened. Returns whether the files known before are the same."""
        known, now = self._files, Identities(identity(self.path), identity(self._log), identity(self._index))
        self._files = Identities(known.file, known.wal or now.wal, known.shm or now.shm)
        return self._files == now

    def require(self) -> None:
        """Raise StoreCorruptError if one of the files was removed or replaced."""
        self.require_file()
        for path, was in ((self._log, self._files.wal), (self._index, self._files.shm)):
            if was is not None and (now := identity(path)) != was:
                raise _replaced(self.path, path, gone=now is None)

    def require_file(self) -> None:
        """Raise StoreCorruptError if the store's file was removed or replaced."""
        if (now := identity(self.path)) != self._files.file:
            raise _replaced(self.path, self.path, gone=now is None)

    def glance(self) -> None:
        """Call `require_file`, but at most once every `GLANCE_EVERY` seconds."""
        now = time.monotonic()
        if now - self._glanced_at >= GLANCE_EVERY:
            self.require_file()
            self._glanced_at = now

    @property
    def has_other_log(self) -> bool:
        """True if another -wal file has replaced the opened one. The opened WAL must then not go into the main file.

        If the opened -wal file was only deleted, its content can safely go into the main file: no process has begun
        another WAL.
        """
        try:
            return identity(self._log) not in {None, self._files.wal}
        except StoreUnavailableError:
            return True


def identity(path: Path) -> Identity | None:
    """Return the identity of a file; None if there is no file. Raises StoreUnavailableError if it cannot be read."""
    try:
        found = os.stat(path)  # noqa: PTH116 - Path.stat() takes twice as long
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnavailableError(
            f"the file {path} cannot be checked ({error.strerror or error}); check its disk and its permissions"
        ) from error
    return found.st_dev, found.st_ino


def _replaced(store: Path, path: Path, *, gone: bool) -> StoreCorruptError:
    what = f"the file of the store {store}" if path == store else f"{path}, which belongs to the store {store},"
    return StoreCorruptError(
        f"{what} was {'removed' if gone else 'replaced'} while this process had it open, so this process sends and "
        "writes nothing more. Stop all processes that use the store, then start them again. If calls are missing, "
        f"restore a backup (`voiceflow restore FILE`); calls that were sent after the backup are not sent again"
    )


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def index_of_log(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")


SCHEMA_VERSION = 21
APPLICATION_ID = 0x76666C77
"""`vflw`, the application id in the header of a store (SQLite file format §1.3.11). Other SQLite files lack it."""

_SMALLEST = 512
"""The size of the smallest page, and so of the smallest file, in bytes (SQLite file format §1.3.2)."""

_SMALL = 4 * 1024 * 1024
"""The size, in bytes, up to which a file is checked completely each time it is opened. The check takes 20 ms."""

T = TypeVar("T")


def open_file(path: Path) -> tuple[Connection, SameFiles]:
    """Open a store for writing. Return the connection and the identity of the store's files.

    A missing file is made with mode 0600, because a store contains telephone numbers and messages. Raises a StoreError,
    which names the file and a remedy. After an error the file and its WAL are unchanged. (By default, SQLite would move
    the WAL into the file when the connection closes.)
    """
    try:
        with translating(path):
            _create(path)
            same = SameFiles(path)
            db = _opened(path)
            if same.opened():
                return db, same
            db.keep_log()
            db.close()
            raise StoreUnavailableError(
                f"the store {path} was replaced while it was being opened. Nothing was changed. Try again."
            )
    except OSError as error:
        raise translated(apsw.CantOpenError(str(error)), path) from error


def _opened(path: Path) -> Connection:
    if path.stat().st_size == 0 and _size_of(log_of(path)) > 0:
        # SQLite would delete that -wal file.
        raise damaged(path, "the file is empty, but the -wal file beside it is not")
    is_checked = _looks_mixed(path) or path.stat().st_size <= _SMALL
    db = Connection(path)
    try:
        _prepare(db, path, is_checked=is_checked)
    except BaseException:
        db.keep_log()
        db.close()
        raise
    return db


def open_reader(path: Path, lock_timeout: timedelta) -> Connection:
    """Open a connection that only reads. Blocks for up to `lock_timeout` while the disk fails.

    The file is open for writing, because WAL mode needs this. The pragma `query_only` forbids writes.
    """
    with translating(path):
        return persist(lambda: _opened_reader(path), lock_timeout)


def _opened_reader(path: Path) -> Connection:
    db = Connection(path)
    try:
        db.run(
            "PRAGMA query_only = ON; PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON"
        )
    except BaseException:
        db.keep_log()
        db.close()
        raise
    return db


def _create(path: Path) -> None:
    # An existing file must not be opened here: closing a descriptor drops all POSIX locks of this process on the file.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except PermissionError as error:
        raise read_only(path) from error


def _prepare(db: Connection, path: Path, *, is_checked: bool) -> None:
    if db.in_transaction:
        db.run("ROLLBACK")
    db.run("BEGIN")  # all checks see the same state of the file, which another process may be making
    new = _is_new(db, path)
    db.run("COMMIT")
    if db.is_read_only:
        raise read_only(path)
    mode = db.pragma("journal_mode", "wal")
    if mode != "wal":
        raise StoreUnavailableError(
            f"the file system of the store {path} does not support a write-ahead log (journal mode {mode}). Put the "
            "store on a local disk, not on a network file system.",
            passes=False,
        )
    # With FULL, a commit is on the disk when it returns. A POST is sent only after the commit that announces it.
    db.run("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON")
    db.run("PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 67108864")
    db.run("PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF")
    if new:
        db.run("BEGIN IMMEDIATE")
        if _is_new(db, path):  # checked again with the lock, because another process may have made it meanwhile
            db.run(schema())
            db.pragma("application_id", APPLICATION_ID)
            db.pragma("user_version", SCHEMA_VERSION)
        db.run("COMMIT")
        return
    if is_checked:
        require_sound(db, path)  # first, because nothing may be written into a damaged file


def _is_new(db: Connection, path: Path) -> bool:
    """Return True if the file is still empty. Raises an error for a file that is not a store of this version."""
    if 0 < path.stat().st_size < _SMALLEST:
        raise not_sqlite(path)  # SQLite takes a file of one byte for an empty one
    application, version = db.pragma("application_id"), db.pragma("user_version")
    if not application and not version and not db.rows("SELECT 1 FROM sqlite_schema LIMIT 1"):
        return True
    require_store(db, path)
    return False


def require_store(db: Connection, path: Path) -> None:
    """Raise a StoreError unless the file is a complete store of this version."""
    if db.pragma("application_id") != APPLICATION_ID:
        raise StoreCorruptError(
            f"{path} is not a voiceflow store: it is an SQLite file of another application. Nothing was changed. Name "
            "another file."
        )
    check_version(db, path)


def check_version(db: Connection, path: Path) -> None:
    check_schema(db.pragma("user_version"), SCHEMA_VERSION, str(path), own="name another file")


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def persist(work: Callable[[], T], lock_timeout: timedelta) -> T:
    """Call `work`, again and again while its error `passes`. Blocks for up to `lock_timeout`."""
    until = time.monotonic() + lock_timeout.total_seconds()
    while True:
        try:
            return work()
        except apsw.Error as error:
            if not passes(error) or time.monotonic() > until:
                raise
            time.sleep(pause_after(error))


def pause_after(error: BaseException) -> float:
    """Return seconds until an operation is tried again whose error `passes`.

    A short random sleep: 2 ms p99 with two processes that write. SQLite's busy_timeout sleeps longer after each try,
    and starved one of them for 0.5 to 1.3 s. A disk that fails is asked less often.
    """
    return random.uniform(0.0002, 0.002) if isinstance(error, BUSY) else 0.2


# --- Is it complete and undamaged? ---


@cache
def schema() -> str:
    """Return the statements that make a store. Read them early: later no file descriptor may be free."""
    return sql_file("voiceflow_worker.backends.sqlite", "schema.sql")


def require_sound(db: Connection, path: Path) -> None:
    """Raise StoreCorruptError if SQLite finds the file damaged. The check reads the whole file: 5 ms a megabyte."""
    if found := db.findings():
        raise translated(apsw.CorruptError(found), path)


def _looks_mixed(path: Path) -> bool:
    """Return True if the -wal file beside a file may belong to another file, because it is older than the file.

    The -wal file is older if a process was killed, and a backup was then copied over the store. The result is also True
    for a moment after each checkpoint; a check of the file then finds no damage.
    """
    try:
        log, file = log_of(path).stat(), path.stat()
    except FileNotFoundError:
        return False
    return log.st_size > 0 and file.st_ctime_ns > log.st_mtime_ns


# --- A store that is missing ---


def require_there(path: Path, *, named: str = "") -> None:
    """Raise NoStoreError if there is no file, and StoreCorruptError if it is empty. `named` says who named it."""
    if path.is_file() and path.stat().st_size == 0:
        raise StoreCorruptError(
            f"{path} is empty. If there was a store in it before, "
            f"restore a backup (`voiceflow restore FILE`); otherwise `voiceflow doctor --make` creates a store in it"
        )
    if path.exists():
        return
    why = "" if path.parent.is_dir() else f": the directory {path.parent} does not exist"
    raise NoStoreError(
        f"there is no store {path}{named}{why}, and this command does not create one. Name a store with "
        "--store or VOICEFLOW_STORE; `voiceflow enqueue` and `voiceflow doctor --make` create a new one",
        passes=True,
    )
