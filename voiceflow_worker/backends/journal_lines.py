"""The lines of a journal file, and what the file says as a whole: read by names.

`backends/local_journal.py` says what the lines mean. Damage is no error: what can be read counts.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog

from voiceflow_worker.backends.record import Head, job_from, newer
from voiceflow_worker.core.base.record_set import Codec, report_unreadable
from voiceflow_worker.core.ports.outside import JOURNAL_FORMAT, OrderLine
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.jobs.job import Job

_log = structlog.get_logger("voiceflow.journal")


class _Where(msgspec.Struct, omit_defaults=True):
    """What a line says by itself: the beginning of what a process wrote, another history, a number."""

    n: int = 0
    voiceflow_journal: int = 0
    writer: str = ""
    history: str = ""
    senders: dict[str, int] = {}
    """The numbers of other senders that the store had."""


class Line(_Where, omit_defaults=True, forbid_unknown_fields=True):
    """A line with its entry, if it has one."""

    ordered: OrderLine | None = None
    head: Head | None = None
    record: str = ""
    body: str = ""

    @property
    def is_unread(self) -> bool:
        """Whether it has an entry that this version does not know."""
        return self.n > 0 and self.ordered is None and not (self.head and self.record and self.body)

    def job(self) -> Job:
        """The job in an entry. Raises StoreVersionError for one of a newer version."""
        if self.is_unread:
            raise newer(f"entry {self.n} of a journal file", ValueError("it has another form"))
        return job_from(tuple(cast("Any", self.head)), self.record, self.body)

    @property
    def at(self) -> datetime:
        """When the order of an entry was given, or its POST was begun. Raises StoreVersionError."""
        return self.job().touched_at if self.ordered is None else self.ordered.at


LINE: Codec[Line] = Codec(Line)

_where: Codec[_Where] = Codec(_Where)


def line_of(text: bytes) -> Line:
    """What a line says. Raises ValueError for one that is damaged, or foreign.

    A field that is not known is passed over, but not in an entry: then nobody knows the call, or the order.
    """
    try:
        line = LINE.value(text)
    except ValueError:
        line = Line(**msgspec.structs.asdict(_where.value(text)))
    if line == _NOTHING:
        raise ValueError("it says nothing")
    return line


_NOTHING = Line()

TAIL = 256 * 1024


@dataclass(slots=True)
class Content:
    """The content of a journal file, or of its last part."""

    writer: str = ""
    history: str = ""
    number: int = 0
    """The number of the newest entry. The store had each of them."""
    entries: dict[int, Line] = field(default_factory=dict[int, Line])
    newest: Line | None = None
    damaged: int = 0
    """How many lines nobody can read."""
    senders: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, line: Line) -> None:
        """Add the next line."""
        self.writer = line.writer or self.writer
        if line.n:
            self.newest = self.entries[line.n] = line
        self.number = max(self.number, line.n)
        self.history = line.history or self.history
        self.senders |= line.senders


def is_in_use(path: Path) -> bool:
    """Whether a process has the file locked."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def newest_at(content: Content, path: Path) -> datetime:
    """When the newest entry was begun, or the last line was written. Raises StoreVersionError."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) if content.newest is None else content.newest.at


def read_content(path: Path, *, whole: bool = False) -> Content:
    """Return the content of a file, or of its last part with the newest entries. Raises StoreVersionError."""
    with path.open("rb") as file:
        head = file.readline()
        size = file.seek(0, os.SEEK_END)
        start = len(head) if whole else max(size - TAIL, len(head))
        file.seek(start)
        if start > len(head):
            file.readline()
        content = _content(chain([head], file), path)
        if start > len(head) and not content.number:
            file.seek(len(head))
            content = _content(chain([head], file), path)
    return content


def _content(lines: Iterable[bytes], path: Path) -> Content:
    content, is_first = Content(), True
    for line in lines:
        if not line.endswith(b"\n"):  # it was cut off
            break
        if line == b"\n":
            continue
        try:
            found = line_of(line)
            if is_first and not found.voiceflow_journal:
                raise ValueError("it does not begin as a journal file")
        except ValueError as error:
            if is_first:
                raise _of_other_version(path) from error
            content.damaged += 1
            _log.warning(
                "a line of a journal file cannot be read, and is left out",
                file=str(path),
                line=line[:80].decode("ascii", "replace"),
            )
            continue
        if found.voiceflow_journal not in {0, JOURNAL_FORMAT}:
            raise _of_other_version(path)
        content.add(found)
        is_first = False
    return content


def _of_other_version(path: Path) -> StoreVersionError:
    return StoreVersionError(
        f"the journal file {path} cannot be read: it is damaged, or another version of voiceflow-worker wrote it"
    )


def jobs_of(entries: dict[int, Line], path: Path, unread: list[int]) -> list[tuple[int, Job]]:
    """The newest entry of each job; the numbers of those that this version does not know are added to `unread`."""
    newest: dict[str, tuple[int, Job]] = {}
    for number in sorted(entries):
        entry = entries.pop(number)  # a file takes three times its size, not five
        try:
            if entry.ordered is None:
                job = entry.job()
                newest.pop(job.id, None)
                newest[job.id] = number, job
        except StoreVersionError as error:  # workers of that version check it
            unread.append(number)
            report_unreadable(f"entry {number} of the journal file {path.name}", error)
    return list(newest.values())
