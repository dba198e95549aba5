"""The identity of the files of an open store, by device and inode."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from voiceflow_worker.errors import StoreReplacedError, StoreUnavailableError
from voiceflow_worker.finding import Remedy

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
    other's writes. So each transaction that writes checks the files first. `files` are the files that another process
    has open at this path, and that this process must open too.
    """

    def __init__(self, path: Path, files: Identities | None = None) -> None:
        self.path = path
        real = path.resolve()  # SQLite keeps the -wal file beside the file itself, not beside a link to it
        self._log, self._index = log_of(real), index_of_log(real)
        self._files = Identities(identity(path), None, None) if files is None else files
        self._glanced_at = float("-inf")

    def opened(self) -> bool:
        """Record which -wal and -shm files SQLite has opened. Returns whether the files known before are the same."""
        known, now = self._files, Identities(identity(self.path), identity(self._log), identity(self._index))
        self._files = Identities(known.file, known.wal or now.wal, known.shm or now.shm)
        return self._files == now

    @property
    def identities(self) -> Identities:
        """The files that are open. To open the same ones in another process, give them to `open_sqlite`."""
        return self._files

    def require(self) -> None:
        """Raise StoreReplacedError if one of the files was removed or replaced."""
        self.require_file()
        for path, was in ((self._log, self._files.wal), (self._index, self._files.shm)):
            if was is not None and (now := identity(path)) != was:
                raise _replaced(self.path, path, gone=now is None)

    def require_file(self) -> None:
        """Raise StoreReplacedError if the store's file was removed or replaced."""
        if (now := identity(self.path)) != self._files.file:
            raise _replaced(self.path, self.path, gone=now is None)

    def glance(self) -> None:
        """Call `require_file`, but at most once every `GLANCE_EVERY` seconds."""
        now = time.monotonic()
        if now - self._glanced_at >= GLANCE_EVERY:
            self._glanced_at = now
            self.require_file()

    @property
    def has_other_log(self) -> bool:
        """Whether another -wal file has replaced the opened one. The opened WAL must then not go into the main file.

        If the opened -wal file was only deleted, its content can safely go into the main file: no process has begun
        another WAL.
        """
        try:
            return identity(self._log) not in {None, self._files.wal}
        except StoreUnavailableError:
            return True


def identity(path: Path) -> Identity | None:
    """The identity of a file; None if there is no file. Raises StoreUnavailableError if it cannot be read."""
    try:
        found = os.stat(path)  # noqa: PTH116 - Path.stat() takes twice as long
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreUnavailableError(
            f"the file {path} cannot be checked ({error.strerror or error}); check its disk and its permissions"
        ) from error
    return found.st_dev, found.st_ino


def _replaced(store: Path, path: Path, *, gone: bool) -> StoreReplacedError:
    what = f"the file of the store {store}" if path == store else f"{path}, which belongs to the store {store},"
    return StoreReplacedError(
        f"{what} was {'removed' if gone else 'replaced'} while this process had it open, so this process sends and "
        "writes nothing more. Stop all processes that use the store, then start them again. If calls are missing, "
        f"{Remedy.RESTORE}; calls that were sent after the backup are not sent again"
    ).remedied(Remedy.RESTORE)


def log_of(path: Path) -> Path:
    """The -wal file of a store, which holds its write-ahead log (WAL)."""
    return path.with_name(f"{path.name}-wal")


def index_of_log(path: Path) -> Path:
    """The -shm file of a store, which holds the index of its WAL."""
    return path.with_name(f"{path.name}-shm")
