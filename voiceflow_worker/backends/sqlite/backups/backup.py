"""Backups of a store in use. A backup is a checked copy of one state of the store."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import apsw

from voiceflow_worker.backends.record import to_micros
from voiceflow_worker.backends.sqlite.file.connection import Connection
from voiceflow_worker.backends.sqlite.file.faults import translated, translating
from voiceflow_worker.backends.sqlite.file.opening import open_reader, require_sound, require_store
from voiceflow_worker.backends.sqlite.file.same_files import index_of_log, log_of
from voiceflow_worker.backends.sqlite.write import PUT

NAMESPACE, MADE = "backup", "made"
"""The namespace and the key of the record that marks a backup. Its value is when the backup was made, in microseconds
since 1970 UTC. A store in use does not have it."""

Progress = Callable[[int, int], None]
"""A function that is called with the amount of work done so far, and the total amount."""

_PAGES = 500
"""The number of pages that are copied between two calls of `progress`, in a few milliseconds."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A finished backup, with the number of its calls and its size in bytes."""

    path: Path
    calls: int
    size: int


def back_up(path: Path, target: Path, *, now: datetime, progress: Progress) -> BackedUp:
    """Copy the store at `path` to `target`, and replace a file of that name. Blocks; the store may be in use meanwhile.

    The copy has the state of the store at the beginning. It gets its name only after it was checked and is on the disk.
    Raises a StoreError about the store or the copy, and OSError if the file cannot be made.
    """
    with unfinished(target) as temporary, translating(path):
        source = open_reader(path)
        try:
            source.keep_log()
            require_store(source, path)
            # The transaction gives all steps the same state. Without it, each commit of another process would restart
            # the copy.
            source.run("BEGIN")
            source.rows("SELECT count(*) FROM sqlite_schema")
            calls = _copy(source, path, temporary, now=now, progress=progress)
        finally:
            source.close()
        size = temporary.stat().st_size
        publish(temporary, target)
    return BackedUp(target, calls, size)


def _copy(source: Connection, path: Path, temporary: Path, *, now: datetime, progress: Progress) -> int:
    with translating(temporary):
        copy = Connection(temporary)
        try:
            try:
                source.copy_to(copy, pages=_PAGES, progress=progress)
            except (apsw.CorruptError, apsw.NotADBError) as error:
                raise translated(error, path) from error
            # A file that is not in WAL mode can be read from a directory where nothing can be written.
            copy.pragma("journal_mode", "delete")
            copy.run(PUT, (NAMESPACE, MADE, json.dumps(to_micros(now)), None))
            require_sound(copy, path)  # the store has the same pages, so a damaged copy means a damaged store
            calls: int = copy.rows("SELECT count(*) FROM jobs")[0][0]
        finally:
            copy.close()
    return calls


@contextmanager
def unfinished(target: Path) -> Generator[Path]:
    """A context with a new file beside `target`, with mode 0600. At the end, the file is deleted if it still exists."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        yield temporary
    finally:
        journal = temporary.with_name(f"{temporary.name}-journal")
        for each in (temporary, log_of(temporary), index_of_log(temporary), journal):
            with suppress(FileNotFoundError):
                each.unlink()


def publish(temporary: Path, target: Path) -> None:
    """Rename a finished file to `target`, durably. A file of that name is replaced."""
    sync(temporary)
    temporary.rename(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk (fsync)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
