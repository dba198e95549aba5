"""The translation of errors of SQLite into errors of this library, with remedies."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw

from voiceflow_worker.backends.record import unstorable
from voiceflow_worker.errors import (
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.finding import Remedy

BUSY = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)
"""Errors while another connection has the file locked. The same operation may succeed later. (ProtocolError is a race
for the locks of the WAL.)"""


def is_failed_flush(error: apsw.IOError) -> bool:
    """Whether the error means that the disk did not confirm a flush of what was written."""
    code: object = getattr(error, "extendedresult", None)  # apsw's stubs do not have it
    return code == apsw.SQLITE_IOERR_FSYNC


def translated(error: Exception, path: Path) -> Exception:
    """Translate an error of SQLite about this file. Any other error is returned as it is."""
    match error:
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            return StoreUnavailableError(
                f"the store {path} is locked: another process is writing to it. Nothing was changed. Try again. If the "
                "store stays locked, find the process that locks it (lsof)."
            )
        case apsw.FullError():
            return StoreReadOnlyError(
                f"the disk of the store {path} is full. Nothing was changed. Free space on the disk, and try again."
            )
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return read_only(path)
        case apsw.NotADBError():
            return StoreCorruptError(
                f"{path} is not a voiceflow store: it is not an SQLite file. Nothing was changed. Check the path, or "
                "name a new file."
            )
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
    """Translate the errors of SQLite that the block raises."""
    try:
        yield
    except (apsw.Error, UnicodeEncodeError) as error:
        raise translated(error, path) from error


def read_only(path: Path) -> StoreReadOnlyError:
    """The error for a file or a directory that this user is not allowed to write."""
    return StoreReadOnlyError(
        f"the store {path} cannot be written: the file, its directory or its file system is read-only for this user. "
        "Nothing was changed. Allow this user to write the file and to make files in its directory, or name another "
        "path."
    )


def damaged(path: Path, found: str) -> StoreCorruptError:
    """The error for a damaged store."""
    return StoreCorruptError(
        f"the store {path} is damaged ({found}). Nothing was changed. Stop all processes that use it, then "
        f"{Remedy.RESTORE}. This keeps the damaged file, and takes over what can still be read about sent calls. "
        f"Without a backup, recover the readable part: sqlite3 {path} .recover | sqlite3 recovered.db"
    ).remedied(Remedy.RESTORE)


def other_version(path: Path, *, found: int, known: int) -> StoreVersionError:
    """The error for a file that another version of this library has laid out."""
    remedy = "Upgrade this installation (pip install -U voiceflow-worker)" if found > known else "Use that version"
    return StoreVersionError(
        f"the store {path} was made by another version of voiceflow-worker: it has version {found}, and this one knows "
        f"only version {known}. Nothing was changed. {remedy}, or name another file."
    )


def _cannot_open(path: Path) -> StoreError:
    if not path.parent.is_dir():
        return StoreUnavailableError(
            f"cannot open the store {path}: the directory {path.parent} does not exist. Make it (mkdir -p "
            f"{path.parent}), or name another path."
        )
    if path.is_dir():
        return StoreUnavailableError(
            f"cannot open the store {path}: it is a directory. Name a file in it.", passes=False
        )
    if path.is_symlink() and not path.exists():
        return StoreUnavailableError(
            f"cannot open the store {path}: it is a symbolic link to {path.readlink()}, which does not exist. Restore "
            "that file, or remove the link."
        )
    if not os.access(path.parent, os.W_OK):
        return read_only(path)
    return StoreUnavailableError(
        f"cannot open the store {path}. Nothing was changed. Check that this user may read and write the file and its "
        "directory."
    )
