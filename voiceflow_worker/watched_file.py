"""A file that is read again when it has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

Content = TypeVar("Content")
_log = structlog.get_logger("voiceflow.settings")


class WatchedFile(Generic[Content]):
    """The content of a small file as it is now: call it.

    It begins with the content that was read `first`. If the file cannot be read, its last content counts; `problem`
    then says why, and the log says it once.
    """

    def __init__(self, path: Path, read: Callable[[], Content], *, first: Content) -> None:
        self._path = path
        self._read = read
        self._content = first
        self.problem: str | None = None
        # It may have changed since it was read first: the first call looks.
        self._seen: tuple[int, int, int] | tuple[()] | None = ()

    def __call__(self) -> Content:
        """Return the content."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            self._look()
        return self._content

    def _look(self) -> None:
        try:
            content = self._read()
        except Exception as error:  # noqa: BLE001 - what was read last still counts
            self.problem = str(error)
            _log.error(
                "a changed file cannot be read; its last content counts", file=str(self._path), error=self.problem
            )
            return
        if self.problem is not None or content != self._content:
            _log.info("a file was read again, because it has changed", file=str(self._path))
        self._content, self.problem = content, None

    def _state(self) -> tuple[int, int, int] | None:
        """Return what changes whenever the file is written or replaced; None if it is not there."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
