"""Rows that are kept in a temporary file until they are read. A pack is a list of rows that is written at once."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
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
