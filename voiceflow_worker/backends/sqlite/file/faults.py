"""Errors of SQLite, translated into errors of this library that say what to do."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw

from voiceflow_worker.errors import (
    Remedy,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StoreVersionError,
)

BUSY = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)
"""Another connection has the file at this moment: the same again will do. (Protocol: a race for the log's locks.)"""


def translated(error: Exception, path: Path) -> Exception:
    """A new `StoreError` for an error of SQLite about this file; any other error unchanged."""
    match error:
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            return StoreUnavailableError(
                f"the store {path} is locked: another process is writing it. Nothing was changed. Try again. If the "
                "lock stays, find the process that holds it (lsof)."
            )
        case apsw.FullError():
            return StoreReadOnlyError(
                f"the disk under the store {path} is full. Nothing was changed; make room and try again."
            )
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return read_only(path)
        case apsw.NotADBError():
            return StoreCorruptError(
                f"{path} is not a voiceflow store: it is not an SQLite file. It was left as it is. Check the path, or "
                "name a new file."
            )
        case apsw.CorruptError():
            return damaged(path, str(error))
        case apsw.CantOpenError():
            return _cannot_open(path)
        case apsw.IOError():
            return StoreUnavailableError(
                f"the disk under the store {path} failed ({error}). Nothing is known to have changed; look at the disk "
                "and its free space (dmesg, df), then try again."
            )
        case UnicodeEncodeError():
            return ValueError(f"a text holds half a surrogate pair, which no store can keep: {error}")
        case apsw.Error():
            return StoreError(f"SQLite refused to work on {path}: {type(error).__name__}: {error}")
        case _:
            return error


@contextmanager
def translating(path: Path) -> Generator[None]:
    """Translate errors of SQLite that are raised within the block."""
    try:
        yield
    except (apsw.Error, UnicodeEncodeError) as error:
        raise translated(error, path) from error


def read_only(path: Path) -> StoreReadOnlyError:
    """The error for a file or directory that may not be written."""
    return StoreReadOnlyError(
        f"the store {path} cannot be written: the file, its directory or its file system is read-only for this user. "
        "Nothing was changed. SQLite writes the file and makes files beside it; allow both, or name another path."
    )


def damaged(path: Path, found: str) -> StoreCorruptError:
    """The error for a damaged store."""
    return StoreCorruptError(
        f"the store {path} is damaged ({found}). It was left as it is. Stop all that use it, then "
        f"{Remedy.RESTORE}, which keeps this file, and takes over what it still tells of calls that were "
        f"sent. Without a backup, recover what can be read: sqlite3 {path} .recover | sqlite3 recovered.db"
    )


def newer_version(path: Path, *, found: int, known: int) -> StoreVersionError:
    """The error for a file of a newer version of this library."""
    return StoreVersionError(
        f"the store {path} has version {found}, and this voiceflow-worker knows up to {known}: a newer one wrote it. "
        "Nothing was changed. Upgrade this installation (pip install -U voiceflow-worker), or name another file."
    )


def _cannot_open(path: Path) -> StoreError:
    if not path.parent.is_dir():
        return StoreUnavailableError(
            f"cannot open the store {path}: there is no directory {path.parent}. Make it (mkdir -p {path.parent}), or "
            "name another path."
        )
    if path.is_dir():
        return StoreUnavailableError(
            f"cannot open the store {path}: it is a directory. Name a file in it.", passes=False
        )
    if not os.access(path.parent, os.W_OK):
        return read_only(path)
    return StoreUnavailableError(
        f"cannot open the store {path}. Nothing was changed; check who may read and write it and its directory."
    )
