"""Journal files: JSON lines with numbers. A line is on the disk before its POST is sent, or its order is stored.

A process keeps the file locked that it writes, and goes on with one of this week that no other one has locked. So there
are as many as processes wrote at once, and old ones are deleted. The first line is a header, with the writer whose
numbers follow, and the history of the store that it follows; a line with a later history follows when another server
has taken over. Each further line is an entry or a report. An entry has a number (`n`) and the stored form of a job, or
what was `ordered`. A report has numbers: `kept` is that of an entry that was committed to the store, and `void` has
those of entries that were not. A crash can cut only the last line, which is then ignored. Each
queue has a folder of files; those of orders are in the folder `_orders`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import re
import shlex
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from errno import EDQUOT, ENOSPC
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast
from weakref import WeakSet

import msgspec
import structlog
from anyio import to_thread

from voiceflow_worker.backends.disk import sync, sync_path
from voiceflow_worker.backends.record import Head, head_of, job_from, record_of
from voiceflow_worker.backends.running import Begun, BlockingThread, LoopCalls
from voiceflow_worker.backends.store_url import file_of, identity_of
from voiceflow_worker.core.base.identity import new_worker_id, original_id
from voiceflow_worker.core.base.record_set import Codec, report_unreadable
from voiceflow_worker.core.orders import FORGET, journal_of
from voiceflow_worker.core.ports.outside import (
    ORDERS,
    JournalLine,
    LocalJournal,
    LocalJournalFile,
    LocalJournalState,
    LocalOrder,
)
from voiceflow_worker.errors import JournalFileError, SettingsError, StoreVersionError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.jobs.job import Job

if TYPE_CHECKING:
    from voiceflow_worker.core.ports.store import Store
    from voiceflow_worker.settings import Settings

_log = structlog.get_logger("voiceflow.journal")

T = TypeVar("T")

SUFFIX = ".journal"
FORMAT, _BEFORE = 5, 4
"""The format of the files, and that of the version before, of which lost orders are named and not carried out again.
Files of other formats are left alone."""


class _Line(msgspec.Struct, omit_defaults=True):
    """A line: a header, another history, an entry of a job or an order, or a report."""

    action: str = ""
    n: int = 0
    voiceflow_journal: int = 0
    writer: str = ""
    history: str = ""
    kept: int = 0
    void: list[int] = []
    ordered: LocalOrder | None = None
    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    store: str = ""
    head: Head | None = None
    record: str = ""
    body: str = ""
    room: str = ""

    @property
    def order(self) -> LocalOrder | None:
        """The order in an entry; None in that of a job. Of one of the version before, it is only known that it was."""
        if self.ordered is None and self.at is not None:
            return LocalOrder(at=self.at, store=self.store, action=self.action)
        return self.ordered

    def job(self) -> Job:
        """The job in an entry. Raises StoreVersionError for one of a newer version."""
        return job_from(tuple(cast("Any", self.head)), self.record, self.body)


_line: Codec[_Line] = Codec(_Line)


def _line_of(text: bytes) -> _Line:
    """What a line says. Raises ValueError for one that is damaged, or foreign."""
    line = _line.value(text)
    if line.n and line.order is None and not (line.head and line.record and line.body):
        raise ValueError("a part of it is missing")
    return line


MEGABYTE = 1024 * 1024
FULL = 16 * MEGABYTE
"""The size in bytes at which a file is closed and the next one is begun: about 15,000 calls."""
MOST = 1024 * MEGABYTE
"""The total size in bytes of a queue's files, above which the oldest are deleted: about a million calls."""
_TAIL = 256 * 1024
_ROOM = _Line(room=" " * 65_536)
"""A line that says nothing: when it was written, there is room again."""


def journal_folder(store: Store, store_url: str, root: Path) -> Path:
    """The folder below `root` for the journal files that are written for a store under this URL: `<id>/<url>`.

    A store and its copies have one `<id>`: what is found in another one's files stops calls at least.
    """
    return root / _folder_name(original_id(store.id)) / _folder_name(identity_of(store_url))


def _folder_name(name: str) -> str:
    readable = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")[-60:]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def journal_files(settings: Settings, store: Store) -> JournalFiles | None:
    """The journal files of the store, in which workers record the calls that they send; None for no journal files.

    They are in the state directory. Without one, those of a SQLite store are beside its file, in `<file>.journals`, and
    others are in the user's state folder. A store in memory has none.
    """
    if settings.store.partition(":")[0].lower() == "memory":
        return None
    path = file_of(settings.store)
    if path is None or settings.state_dir is not None:
        root = settings.state_folder()
    else:
        root = path.resolve().with_name(f"{path.resolve().name}.journals")
    folder = journal_folder(store, settings.store, root)
    ours = getattr(journal_of(store), "folder", None)
    # That in which this process keeps its orders: it alone may erase from the file that it writes.
    return cast("JournalFiles", journal_of(store)) if ours == folder else JournalFiles(folder, shares=True)


@dataclass(slots=True)
class _Content:
    """The content of a journal file, or of its last part."""

    entries: dict[int, _Line] = field(default_factory=dict[int, _Line])
    written_as: int = 0
    writer: str = ""
    void: set[int] = field(default_factory=set[int])
    kept: int = 0
    history: str = ""

    @property
    def last(self) -> int:
        """The number of the newest entry that may have been committed; 0 for none."""
        return max(self.entries.keys() - self.void, default=0)


class JournalFiles(LocalJournal):
    """The port `LocalJournal` in files below a folder, one folder per queue.

    With `shares`, the folder is a `journal_folder`, and two kinds of folders next to it are read too. Those of the same
    id under other URLs: another host has taken over the store, or its URL was written in another way. And those of the
    same URL with other ids: the store was emptied, and has got another id.
    """

    def __init__(self, folder: Path, *, shares: bool = False, full: int = FULL, most: int = MOST) -> None:
        self.folder = folder
        self._shares = shares
        self._full = full
        self._most = most
        self._begun: WeakSet[JournalFile] = WeakSet()

    async def begin(self, queue: str, *, at: datetime, history: str = "") -> JournalFile:
        file = JournalFile(self.folder / queue, full=self._full)
        with _writing_to(file.folder):
            await to_thread.run_sync(file.open, at, history)
        self._begun.add(file)
        return file

    async def files(self, queue: str, *, since: datetime | None = None) -> Sequence[LocalJournalState]:
        return await to_thread.run_sync(self._read_all, queue, "" if since is None else f"{since:%G-W%V}")

    async def entries(self, name: str) -> Sequence[tuple[int, Job]]:
        return await to_thread.run_sync(_entries_of, Path(name))

    async def orders(self, name: str) -> Sequence[tuple[int, LocalOrder]]:
        return await to_thread.run_sync(_orders_of, Path(name))

    def _is_of_store(self, path: Path) -> bool:
        return path.parents[2] == self.folder.parent

    async def prune(self, queue: str, *, before: datetime) -> None:
        await to_thread.run_sync(partial(self._prune, queue, before))

    async def erase(self, job_ids: Collection[str]) -> bool:
        wanted = [job_id.encode() for job_id in job_ids]
        is_whole = True
        for file in list(self._begun):
            is_whole = await file.leave(wanted) and is_whole
        await to_thread.run_sync(partial(self._erase, wanted))
        return is_whole

    def _erase(self, job_ids: Sequence[bytes]) -> None:
        for path in self._paths("*"):
            with _looking_at(path):
                if not _is_in_use(path):
                    _erase_from(path, job_ids)

    def _paths(self, queue: str) -> list[Path]:
        """The files of a queue; those of all queues for `*`."""
        folders = {self.folder}
        if self._shares:
            same_id = self.folder.parent
            folders |= {*same_id.glob("*"), *same_id.parent.glob(f"*/{self.folder.name}")}
        return sorted(path for folder in folders for path in folder.glob(f"{queue}/*{SUFFIX}"))

    def _read_all(self, queue: str, since: str) -> list[LocalJournalState]:
        found: list[LocalJournalState] = []
        for path in [each for each in self._paths(queue) if each.name >= since]:
            with _looking_at(path):
                content = _read_end(path)
                url = path.parents[1].name
                found.append(
                    LocalJournalState(
                        name=str(path),
                        writer=content.writer,
                        kept=content.kept,
                        last=content.last,
                        is_open=_is_in_use(path),
                        other_store=None if url == self.folder.name else url,
                        history=content.history if self._is_of_store(path) else "",
                    )
                )
        return found

    def _prune(self, queue: str, before: datetime) -> None:
        for left in self.folder.glob(f"{queue}/.*.new"):  # by a process that was killed while it wrote the file
            with _looking_at(left):
                if left.stat().st_mtime < before.timestamp():
                    left.unlink()
        ended: list[tuple[datetime, Path, int]] = []
        total = 0
        for path in self._paths(queue):
            with _looking_at(path):  # a file of a newer version is left alone
                size = path.stat().st_size
                content = _read_end(path)
                total += size
                if _is_in_use(path):
                    continue
                newest = next(reversed(content.entries.values()), None)
                began = None if newest is None else newest.order.at if newest.order else newest.job().touched_at
                if began is None or began < before:
                    path.unlink()
                    total -= size
                else:
                    ended.append((began, path, size))
        for began, path, size in sorted(ended):
            if total <= self._most:
                break
            _log.warning(
                "the journal files are too large; the oldest is deleted, so a loss of its calls will not be detected",
                file=str(path),
                newest_call=began.isoformat(),
            )
            path.unlink(missing_ok=True)
            total -= size


class JournalFile(LocalJournalFile):
    """The port `LocalJournalFile`: a file that this process has locked."""

    def __init__(self, folder: Path, *, full: int) -> None:
        self.folder = folder
        self.writer: str = ""
        self.number: int = 0
        self.kept: int = 0
        self.last: int = 0
        self._full = full
        self._week = self._history = ""
        self._path = folder
        self._fd: int | None = None
        self._size = 0
        self._first = 1
        self._is_recorded = True
        self._has_failed = False
        self._thread: BlockingThread | None = None
        self._begun: Begun[Any] | None = None

    def open(self, at: datetime, history: str) -> None:
        """Take the first file of this week that has room, and that nobody has locked; or begin one. This blocks."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._week = f"{at:%G-W%V}"
        for place in count(1):
            # Only its owner may read the file, because it contains telephone numbers and messages.
            path = self.folder / f"{self._week}-{place}{SUFFIX}"
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                if self._takes(fd, path, history):
                    fd = -1
                    return
            finally:
                if fd >= 0:
                    os.close(fd)

    def _takes(self, fd: int, path: Path, history: str) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not _is_at(path, fd):
            return False
        size = os.fstat(fd).st_size
        if size:
            try:
                content = _read_end(path)
            except StoreVersionError:
                return False
            if size >= self._full or content.written_as != FORMAT:
                return False
            os.ftruncate(fd, os.pread(fd, size, 0).rfind(b"\n") + 1)  # of a line that was cut off
            self.writer, self.kept, self.last = content.writer, content.kept, content.last
            self.number = max((*content.entries, *content.void, content.kept))
        else:
            self.writer, content = self.writer or new_worker_id(), _Content()
        self._fd, self._path, self._size, self._history = fd, path, os.fstat(fd).st_size, history
        if not size:
            self._write_durably([_Line(voiceflow_journal=FORMAT, writer=self.writer, history=history)])
            sync_path(self.folder)
        elif history not in {"", content.history}:
            self._write([_Line(history=history)])
        return True

    def is_over(self, *, at: datetime) -> bool:
        if self._fd is not None and not _is_at(self._path, self._fd):
            _log.warning(
                "the journal file of this worker was deleted or moved, so a loss of its calls will not be detected; "
                "a new file begins",
                file=str(self._path),
            )
            return True
        return self._fd is None or self._has_failed or self._size >= self._full or self._week != f"{at:%G-W%V}"

    async def leave(self, job_ids: Sequence[bytes]) -> bool:
        """Leave this file if it has an entry of these jobs. False if that must wait until its entries are reported."""
        return await self._begin(partial(self._leave, job_ids))

    def _leave(self, job_ids: Sequence[bytes]) -> bool:
        if self._fd is None or not _has_any(self._path, job_ids):
            return True
        if not self._is_recorded:
            self._size = self._full
            return False
        self._leave_file()
        return True

    def append(self, lines: Sequence[JournalLine], *, first: int) -> Awaitable[None]:
        is_idle = self._begun is None or self._begun.has_ended
        self._is_recorded, self._first = False, first
        entries = [_entry(number, line) for number, line in enumerate(lines, first)]
        with self._noting_failure():
            if is_idle:
                self._write(entries)
                return self._appended(self._begin(partial(sync, self._descriptor)))
        return self._appended(self._begin(partial(self._write_durably, entries)))

    async def _appended(self, begun: Begun[None]) -> None:
        with self._noting_failure():
            await begun

    @contextmanager
    def _noting_failure(self) -> Generator[None]:
        """Note for `recover` that an append has failed, or that nobody has seen its end. Raises JournalFileError."""
        try:
            with _writing_to(self.folder):
                yield
        except BaseException:
            self._has_failed = True
            raise

    async def recover(self) -> None:
        if self._has_failed:
            with _writing_to(self.folder):
                await self._begin(partial(self._write_durably, [_ROOM]))
            self._has_failed = False

    def _begin(self, work: Callable[[], T]) -> Begun[T]:
        """Begin work in the thread of this file, which does one after the other."""
        if self._thread is None:
            self._thread = BlockingThread(LoopCalls.of_running_loop(), name="voiceflow-journal-file")
        self._begun = begun = self._thread.begin(work)
        return begun

    async def follow(self, history: str) -> None:
        if history != self._history:
            self._history = history
            with _writing_to(self.folder):
                self._write([_Line(history=history)])

    def record_committed(self, committed: Sequence[bool | None]) -> None:
        self._is_recorded = True
        void = [number for number, done in enumerate(committed, self._first) if done is False]
        kept = [number for number, done in enumerate(committed, self._first) if done]
        try:
            self._write([_Line(void=void, kept=kept[-1] if kept else 0)])
        except OSError as error:
            _log.warning("a journal file could not be written", error=str(error))

    def close(self) -> None:
        self._leave_file()
        if self._thread is not None:
            self._thread.end()
            self._thread = None

    def _leave_file(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write_durably(self, lines: Sequence[_Line]) -> None:
        self._write(lines)
        sync(self._descriptor)

    def _write(self, lines: Sequence[_Line]) -> None:
        data = "".join(f"{_line.text(line)}\n" for line in lines).encode()
        self._size += (whole := len(data))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self._size = self._full
            with suppress(OSError):  # the next line must not continue one that was cut off
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - (whole - len(data)))
            raise

    @property
    def _descriptor(self) -> int:
        if self._fd is None:
            raise OSError("the file was closed")
        return self._fd


def _is_at(path: Path, fd: int) -> bool:
    """Whether an open file is still the one with this name: others may have deleted it, or replaced it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(fd))
    return False


@contextmanager
def _writing_to(folder: Path) -> Generator[None]:
    """Translate the errors of a write. Raises JournalFileError."""
    try:
        yield
    except OSError as error:
        whose, so = ("orders", "") if folder.name == ORDERS else ("this worker", ", so no calls are sent")
        remedy = "free space on that disk"
        if isinstance(error, PermissionError):
            remedy = _of_other_user(error, folder) or "run this as the user to whom the folder belongs"
        raise JournalFileError(
            f"the journal file of {whose} in {folder} cannot be written ({error.strerror or error}){so}: "
            f"{remedy}, or {Remedy.SET_STATE_DIR} to a folder that this user can write, on another disk"
        ).needing(Remedy.SET_STATE_DIR) from error


def _entry(number: int, line: JournalLine) -> _Line:
    if isinstance(line, LocalOrder):
        return _Line(action=line.action, n=number, ordered=line)
    return _Line(n=number, head=head_of(line), record=record_of(line), body=line.body)


def _has_any(path: Path, job_ids: Sequence[bytes]) -> bool:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    return any(_is_named(line, job_ids) for line in data.split(b"\n"))


def _is_named(line: bytes, job_ids: Sequence[bytes]) -> bool:
    """Whether a line has any of these ids, and is to be erased for it: that of an erasure has ids, and no person."""
    return any(job_id in line for job_id in job_ids) and not line.startswith(_ERASES)


def _erase_from(path: Path, job_ids: Sequence[bytes]) -> None:
    """Write a file anew without the entries of these jobs; delete it if none is left. It must not be in use."""
    if not _has_any(path, job_ids):
        return
    data = path.read_bytes()
    content = _content(BytesIO(data), path)  # refuses a file of a newer version
    left, lines = list[int](), list[bytes]()
    for text in data.split(b"\n")[:-1]:
        with suppress(ValueError):  # a line that cannot be read is left out
            line = _line_of(text)
            if _is_named(text, job_ids) if line.order else line.head and line.head[0].encode() in job_ids:
                continue
            lines.append(text)
            if line.n and line.n not in content.void:
                left.append(line.n)
    if not left:
        path.unlink()
        return
    kept = [number for number in left if number <= content.kept]
    if content.kept not in left and kept:
        lines.append(_line.text(_Line(kept=kept[-1])).encode())
    new = path.with_name(f".{path.name}.new")
    fd = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
            sync(file.fileno())
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def _is_in_use(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _read_end(path: Path) -> _Content:
    """The last part of a file, with its newest entry and the newest entry that was committed to the store."""
    with path.open("rb") as file:
        head = file.readline()
        size = file.seek(0, os.SEEK_END)
        start = max(size - _TAIL, len(head))
        file.seek(start)
        rest = file.read()
        if start > len(head):
            rest = rest.partition(b"\n")[2]
        content = _content(BytesIO(head + rest), path)
        if start > len(head) and content.kept not in content.entries:
            file.seek(0)
            content = _content(file, path)
    return content


def _content(lines: Iterable[bytes], path: Path) -> _Content:
    content = _Content()
    for line in lines:
        if not line.endswith(b"\n"):  # it was cut off
            break
        try:
            found = _line_of(line)
        except ValueError:
            _log.warning(
                "a line of a journal file cannot be read, and is left out",
                file=str(path),
                line=line[:80].decode("ascii", "replace"),
            )
            continue
        if found.voiceflow_journal:
            if found.voiceflow_journal not in {FORMAT, _BEFORE}:
                raise StoreVersionError(
                    f"the journal file {path} was written by another version of voiceflow-worker; if that is newer, "
                    "upgrade this one, which cannot see what the store has lost of it"
                )
            content.writer, content.written_as = found.writer, found.voiceflow_journal
        if found.n:
            content.entries[found.n] = found
        content.history = found.history or content.history
        content.kept = found.kept or content.kept
        content.void.update(found.void)
    return content


_ERASES = f'{{"action":"{FORGET}"'.encode()


def _entries_of(path: Path) -> list[tuple[int, Job]]:
    newest: dict[str, tuple[int, Job]] = {}
    with _looking_at(path):
        with path.open("rb") as lines:
            content = _content(lines, path)
        for number in list(content.entries):
            entry = content.entries.pop(number)  # a file takes three times its size, not five
            if number in content.void or entry.order is not None:
                continue
            if (job := _readable(entry, path)) is not None:
                newest.pop(job.id, None)
                newest[job.id] = number, job
    return list(newest.values())


def _orders_of(path: Path) -> list[tuple[int, LocalOrder]]:
    content = _Content()
    with _looking_at(path), path.open("rb") as lines:
        content = _content(lines, path)
    return [(n, each.order) for n, each in content.entries.items() if each.order and n not in content.void]


def _readable(entry: _Line, path: Path) -> Job | None:
    """The job in an entry. None if a newer version wrote the entry: workers of that version check it."""
    try:
        return entry.job()
    except StoreVersionError as error:
        report_unreadable(f"entry {entry.n} of the journal file {path.name}", error)
        return None


@contextmanager
def _looking_at(path: Path) -> Generator[None]:
    """Skip a file that is gone or that a newer version wrote. Raises SettingsError for a file that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        pass
    except StoreVersionError as error:
        report_unreadable(f"the journal file {path.name}", error)
    except OSError as error:
        is_full = error.errno in {ENOSPC, EDQUOT}
        remedy = "free space on that disk" if is_full else _of_other_user(error, path.parent, path) or _ALLOW
        raise SettingsError(
            f"the journal file {path} cannot be read or written ({error.strerror or error}): {remedy}"
        ) from error


_ALLOW = "allow this user to read and write the state directory"


def _of_other_user(error: OSError, folder: Path, *files: Path) -> str | None:
    """What mends a lack of rights if a file, the folder of its queue, or one above it is another user's."""
    for path in (*files, folder, *folder.parents[:3]) if isinstance(error, PermissionError) else ():
        if os.path.lexists(path):
            owner, mine = path.stat().st_uid, os.geteuid()
            mended = shlex.quote(str(folder if path in files else path))
            mends = f"`sudo chown -R {_name_of(mine)} {mended}` gives it to the user of this worker"
            who = f"{path} belongs to {_name_of(owner)}, as whom a worker was run"
            return f"{who}: {mends}" if owner != mine else None
    return None


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
