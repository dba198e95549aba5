"""A file that is read again when it has changed, such as one with a secret."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

Content = TypeVar("Content")
LOOK_EVERY = 1.0
_log = structlog.get_logger("voiceflow.settings")


class WatchedFile(Generic[Content]):
    """The content of a small file as it is now: call it. It is looked at once a second at most.

    If the changed file cannot be read, its last content counts, and this is logged once.
    """

    def __init__(self, path: Path, read: Callable[[], Content], *, first: Content) -> None:
        self._path = path
        self._read = read
        self._content = first
        self._mark = self._marked()
        self._looked_at = time.monotonic()

    def __call__(self) -> Content:
        """The content."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            mark = self._marked()
            if mark != self._mark:
                self._mark = mark
                try:
                    self._content = self._read()
                except Exception as error:  # noqa: BLE001 - what was read last still counts
                    _log.error("a changed file cannot be read; its last content counts", error=str(error))
                else:
                    _log.info("a file was read again, because it has changed", file=str(self._path))
        return self._content

    def _marked(self) -> tuple[int, int, int] | None:
        """What changes whenever the file is written or replaced; None if it is not there."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
