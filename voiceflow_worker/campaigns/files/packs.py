"""Files that are written: rows kept in a temporary file, and files that get their names when they are complete."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class Packs:
    """Packs of rows in a temporary `file`. Rows are plain tuples: named tuples take twice the time and space."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packs = 0
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def put(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add these rows as one pack. Raises OSError, with the remedy, if the file cannot be written."""
        if not rows:
            return
        try:
            pickle.dump(rows, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            remedy = f"{error.strerror}; free space in the temporary folder, or set TMPDIR to another"
            raise OSError(error.errno, remedy, tempfile.gettempdir()) from error
        self._packs += 1
        self._rows += len(rows)

    def __iter__(self) -> Iterator[list[tuple[Any, ...]]]:
        """The packs, in the order in which they were added."""
        self._file.seek(0)
        for _ in range(self._packs):
            yield pickle.load(self._file)  # noqa: S301 (written above, by this process)


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield a temporary path. At the end of the block the file is moved to `path`; after an error it is removed.

    A `path` that is not a plain file (a pipe, `/dev/stdout`) is written directly. Raises OSError, which names `path`.
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
