"""The processes that have a file open, by SQLite's locks and by /proc."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from voiceflow_worker.backends.sqlite.file.soundness import index_of_log, log_of

# SQLite's own lock bytes (SQLite file format §1.8, os.h): PENDING, RESERVED, and 510 bytes of SHARED.
_FIRST_LOCK, _LOCKS = 0x40000000, 512
_PROCESSES = Path("/proc")


def holders(path: Path) -> list[int]:
    """The other processes on this machine that have the file, its log or the log's index open, according to /proc.

    Frozen processes and those without a lock are found too. Processes of other users are found by their locks only.
    """
    wanted = {identity for each in (path, log_of(path), index_of_log(path)) if (identity := _identity(each))}
    own = os.getpid()
    return sorted(
        int(process.name)
        for process in _PROCESSES.glob("[0-9]*")
        if int(process.name) != own and any(_identity(file) in wanted for file in _open_files(process))
    )


@contextmanager
def locked_alone(path: Path) -> Generator[bool]:
    """Lock a file that SQLite cannot read as SQLite's exclusive lock does; gives whether the lock was granted.

    Only for a process without another descriptor of the file: closing one drops all its locks.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKS, _FIRST_LOCK)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _open_files(process: Path) -> list[Path]:
    try:
        return list((process / "fd").iterdir())
    except OSError:  # it has ended, or is another user's
        return []


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
