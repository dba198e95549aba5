"""What was written to a file is on the disk."""

from __future__ import annotations

import fcntl
import os
from errno import EINVAL, ENOTSUP, ENOTTY
from pathlib import Path

_FULL: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: its fsync leaves data in the cache of the disk


def sync(fd: int) -> None:
    """Flush an open file, or the names in an open folder, to the disk itself. Raises OSError."""
    if _FULL is not None:
        try:
            fcntl.fcntl(fd, _FULL)
        except OSError as error:
            if error.errno not in {ENOTSUP, ENOTTY, EINVAL}:  # what a file system says that does not have it
                raise
        else:
            return
    os.fsync(fd)


def sync_path(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)
