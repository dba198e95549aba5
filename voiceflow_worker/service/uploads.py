"""Folders for the files that people and programs upload, in the folder of the system for temporary files.

A process deletes its folders itself. Those of a process that was killed are found by its id, and deleted by others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp

_PREFIX = "voiceflow-upload-"
_NAME = re.compile(rf"{_PREFIX}(\d+)-\w+")


def upload_folder() -> Path:
    """Make a folder for uploads of this process, which only its user can read."""
    return Path(mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


@contextmanager
def uploading() -> Generator[Path]:
    """A folder for the uploads of one request, deleted at the end of the block."""
    folder = upload_folder()
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


def delete_left_over() -> int:
    """Delete the folders of processes of this host that have died; returns their number."""
    deleted = 0
    for path in Path(gettempdir()).glob(f"{_PREFIX}*"):
        match = _NAME.fullmatch(path.name)
        if match is not None and not _is_running(int(match[1])):
            rmtree(path, ignore_errors=True)
            deleted += not path.exists()
    return deleted


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
