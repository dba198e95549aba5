"""The search for store files in a folder, for messages about a store that is missing."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path

from voiceflow_worker.backends.sqlite.file.opening import APPLICATION_ID

_HEADER = 72
_APPLICATION = slice(68, 72)
"""The place of the application id in the header of a file (SQLite file format §1.3)."""
_MOST_NAMES = 5
_MOST_FILES = 500


def stores_near(path: Path) -> Sequence[Path]:
    """Up to five stores in the folder of `path`, those with the most similar names first."""
    try:
        files = [each for each in islice(path.parent.iterdir(), _MOST_FILES) if _is_store(each)]
    except OSError:
        return ()
    files.sort(key=lambda each: (-SequenceMatcher(None, each.name, path.name).ratio(), each.name))
    return files[:_MOST_NAMES]


def _is_store(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError:
        return False
    # All content of a new store that is in use may still be in its WAL.
    return header[_APPLICATION] == APPLICATION_ID.to_bytes(4) or path.with_name(path.name + "-wal").exists()
