"""A file that appears under its name only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """The path to write to: a file beside `path`, which takes its place when the block ends well, else is removed.

    What is no plain file (a pipe, `/dev/stdout`) is written as it is. Raises OSError that names `path`.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield unfinished
        if target.exists():
            unfinished.chmod(target.stat().st_mode & 0o777)
        unfinished.replace(target)
    except OSError as error:
        if unfinished.parent.is_dir():
            unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
