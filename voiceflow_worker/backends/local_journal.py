"""Journal files: one file of JSON lines per worker. An entry is on the disk before its POST is sent.

A worker keeps its file locked. The first line is a header, with the writer whose numbers follow, and the history of the
store that the worker follows; a line with a later history follows when another server has taken over. Each further line
is an entry or the report of a commit. An entry has a number (`n`) and the stored form of a job. A report has numbers:
`kept` is that of an entry that was committed to the store, and `void` has those of entries that were not. A crash can
cut only the last line. A cut line is ignored: if it is an entry, its POST was not sent.

Orders are in files of their own, in the folder `_orders`: a line has the token of an `order` and what it writes. It is
there before the store gets the order; a line with `fates` follows, by tokens. A process goes on with a file that no
other one has locked, so there are as many as processes gave orders at once; each week has its own, so that old ones are
deleted.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import re
import shlex
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from errno import EDQUOT, ENOSPC
from functools import partial
from io import BytesIO
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
    Fate,
    LocalJournalFile,
    LocalJournalState,
    LocalOrder,
    OrderJournal,
)
from voiceflow_worker.errors import JournalFileError, SettingsError, StoreVersionError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import Job

if TYPE_CHECKING:
    from voiceflow_worker.core.ports.store import Store
    from voiceflow_worker.settings import Settings

_log = structlog.get_logger("voiceflow.journal")

T = TypeVar("T")

SUFFIX = ".journal"
FORMAT, ORDERS_FORMAT = 2, 3
"""The formats of the files of calls, and of those of orders, which versions that know others leave alone."""
_NUMBERED = 2
"""The format of calls from which on the store has the numbers of their lines."""
_WITH_FATES = 3
"""The format of orders from which on a line is there before the store gets the order."""
_line: Codec[dict[str, Any]] = Codec(dict[str, Any])


class _Line(msgspec.Struct):
    """What a line may have, of those who have not damaged it."""

    voiceflow_journal: int = 0
    writer: str = ""
    history: str = ""
    n: int | None = None
    kept: int = 0
    void: list[int] = []
    order: str | None = None
    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    head: Head | None = None
    record: str | None = None
    body: str | None = None
    fates: dict[str, str] = {}


_checked: Codec[_Line] = Codec(_Line)


def _fields_of(line: bytes) -> dict[str, Any]:
    """The fields of a line. Raises ValueError for one that is damaged, or foreign."""
    checked, fields = _checked.value(line), _line.value(line)
    is_cut = "n" in fields and None in (checked.n, checked.head, checked.record, checked.body)
    if is_cut or (checked.order is not None and checked.at is None):
        raise ValueError("a part of it is missing")
    return fields


MEGABYTE = 1024 * 1024
FULL = 16 * MEGABYTE
"""The size in bytes at which a file is closed and the next one is begun: about 15,000 calls."""
MOST = 1024 * MEGABYTE
"""The total size in bytes of a queue's files, above which the oldest are deleted: about a million calls."""
_TAIL = 256 * 1024
_ROOM = {"room": " " * 65_536}
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

    entries: dict[int, Mapping[str, Any]] = field(default_factory=dict[int, Mapping[str, Any]])
    orders: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    fates: dict[str, str] = field(default_factory=dict[str, str])
    written_as: int = FORMAT
    writer: str = ""
    void: set[int] = field(default_factory=set[int])
    kept: int = 0
    history: str = ""


class JournalFiles(OrderJournal):
    """The port `OrderJournal` in files below a folder, one folder per queue.

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
        self._orders: JournalFile | None = None

    async def begin(self, queue: str, name: str, *, history: str = "") -> JournalFile:
        file = JournalFile(self.folder / queue, name, full=self._full, history=history)
        try:
            await to_thread.run_sync(file.open)
        except OSError as error:
            folder = self.folder / queue
            other = f"{Remedy.SET_STATE_DIR.sentence} to a folder that this user can write, on a persistent disk"
            raise SettingsError(
                f"the worker cannot write its journal file in {folder} ({error.strerror or error}). Without it, nobody "
                f"would notice that the store was restored to an older state. {_of_other_user(error, folder) or other}"
            ) from error
        self._begun.add(file)
        return file

    async def files(self, queue: str) -> Sequence[LocalJournalState]:
        return await to_thread.run_sync(partial(self._read_all, queue))

    async def entries(self, queue: str, name: str) -> Sequence[tuple[int, Job]]:
        return await to_thread.run_sync(partial(self._entries, queue, name))

    async def keep_orders(self, orders: Sequence[LocalOrder]) -> str:
        if self._orders is None:
            self._orders = JournalFile(self.folder / ORDERS, new_worker_id(), full=self._full, is_of_orders=True)
            self._begun.add(self._orders)
        lines, week = [_order_line(each) for each in orders], f"{orders[0].at:%G-W%V}-"
        return str(await self._orders.keep_orders(lines, week=week))

    def note_fates(self, fates: Mapping[str, Fate], name: str) -> None:
        with suppress(OSError):  # of one that a crash leaves out, nobody knows what became of it
            fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                os.write(fd, f"{_line.text({'fates': fates})}\n".encode())
            finally:
                os.close(fd)

    def close_orders(self) -> None:
        if self._orders is not None:
            self._orders.close()

    async def order_files(self, *, since: datetime) -> Sequence[str]:
        paths, week = await to_thread.run_sync(self._paths, ORDERS), f"{since:%G-W%V}"
        return [str(path) for path in paths if self._is_of_store(path) and path.name >= week]

    async def orders(self, name: str, *, newest: bool = False) -> Sequence[LocalOrder]:
        return await to_thread.run_sync(_orders_of, Path(name), newest)

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

    def _read_all(self, queue: str) -> list[LocalJournalState]:
        found: list[LocalJournalState] = []
        for path in self._paths(queue):
            with _looking_at(path):
                content = _read_end(path)
                url = path.parents[1].name
                kept = content.entries.get(content.kept)
                found.append(
                    LocalJournalState(
                        name=path.stem,
                        writer=content.writer or f"{path.stem} of before",
                        kept=content.kept,
                        last=max(content.entries.keys() - content.void, default=0),
                        is_open=_is_in_use(path),
                        is_numbered=content.written_as >= _NUMBERED,
                        other_store=None if url == self.folder.name else url,
                        newest_committed=_readable(kept, path) if kept is not None else None,
                        history=content.history if self._is_of_store(path) else "",
                    )
                )
        return found

    def _entries(self, queue: str, name: str) -> list[tuple[int, Job]]:
        newest: dict[str, tuple[int, Job]] = {}
        for path in [each for each in self._paths(queue) if each.stem == name]:
            with _looking_at(path):
                with path.open("rb") as lines:
                    content = _content(lines, path)
                for number in list(content.entries):
                    entry = content.entries.pop(number)  # a file takes three times its size, not five
                    if number not in content.void and (job := _readable(entry, path)) is not None:
                        newest.pop(job.id, None)
                        newest[job.id] = number, job
        return list(newest.values())

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
                began = None if newest is None else _job_of(newest).touched_at
                if content.orders:
                    began = datetime.fromisoformat(content.orders[-1]["at"])
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
    """The journal of one worker: a locked file, followed by a new one when it is full.

    One `is_of_orders` goes on with a file of its week that nobody has locked.
    """

    def __init__(self, folder: Path, name: str, *, full: int, history: str = "", is_of_orders: bool = False) -> None:
        self._folder = folder
        self._name = name
        self._full = full
        self._history = history
        self._is_of_orders = is_of_orders
        self._week = ""
        self._part = 0
        self._path = folder
        self._fd: int | None = None
        self._size = 0
        self._first = 1
        self._is_recorded = True
        self._has_failed = False
        self._thread: BlockingThread | None = None
        self._begun: Begun[Any] | None = None

    def open(self) -> None:
        """Begin a new file, which gets its name only when it is locked. This blocks."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._part += 1
        name = self._week + (self._name if self._part == 1 else f"{self._name}-{self._part}")
        hidden, path = self._folder / f".{name}.new", self._folder / f"{name}{SUFFIX}"
        # Only its owner may read the file, because it contains telephone numbers and messages.
        fd = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            written_as = ORDERS_FORMAT if self._is_of_orders else FORMAT
            header = {"voiceflow_journal": written_as, "writer": self._name, "history": self._history}
            self._size = os.write(fd, f"{_line.text(header)}\n".encode())
            sync(fd)
            hidden.rename(path)
            sync_path(self._folder)
        except BaseException:
            os.close(fd)
            hidden.unlink(missing_ok=True)
            raise
        self._leave_file()
        self._fd, self._path = fd, path

    def _goes_on(self) -> bool:
        """Go on with a file of this week that has room, and that nobody has locked. This blocks."""
        for path in self._folder.glob(f"{self._week}*{SUFFIX}"):
            with suppress(FileNotFoundError, BlockingIOError):
                fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    size = os.fstat(fd).st_size
                    is_ours = os.pread(fd, len(_ORDERS_HEAD), 0) == _ORDERS_HEAD
                    is_whole = is_ours and size < self._full and os.pread(fd, 1, size - 1) == b"\n"
                    if is_whole and os.path.samestat(path.stat(), os.fstat(fd)):
                        self._fd, self._path, self._size, fd = fd, path, size, -1
                        # What the process before was giving when it ended is not being given any more.
                        self._write([_line.text({"fates": {_ALL: Fate.UNKNOWN}})])
                        return True
                finally:
                    if fd >= 0:
                        os.close(fd)
        return False

    async def leave(self, job_ids: Sequence[bytes]) -> bool:
        """Go on in a new file if this one has an entry of these jobs. False if that must wait for the next entries."""
        with self._reporting():
            return await self._begin(partial(self._leave, job_ids))

    def _leave(self, job_ids: Sequence[bytes]) -> bool:
        if self._fd is None or not _has_any(self._path, job_ids):
            return True
        if not self._is_recorded:
            self._size = self._full
            return False
        self.open()
        return True

    def append(self, jobs: Sequence[Job], *, first: int) -> Awaitable[None]:
        is_idle = self._begun is None or self._begun.has_ended
        self._is_recorded, self._first = False, first
        lines = _entry_lines(jobs, first)
        with self._noting_failure():
            if is_idle and self._has_room:
                self._write(lines)
                return self._appended(self._begin(partial(sync, self._descriptor)))
        return self._appended(self._begin(partial(self._append, lines)))

    async def _appended(self, begun: Begun[None]) -> None:
        with self._noting_failure():
            await begun

    @contextmanager
    def _noting_failure(self) -> Generator[None]:
        """Note for `recover` that an append has failed, or that nobody has seen its end. Raises JournalFileError."""
        try:
            with self._reporting():
                yield
        except BaseException:
            self._has_failed = True
            raise

    @property
    def _has_room(self) -> bool:
        return self._fd is not None and self._size < self._full and not self._is_gone()

    async def keep_orders(self, lines: Sequence[str], *, week: str) -> Path:
        """Write the lines of orders; they are on disk when this returns their file. Raises JournalFileError."""
        with self._reporting():
            return await self._begin(partial(self._keep_orders, lines, week))

    def _keep_orders(self, lines: Sequence[str], week: str) -> Path:
        if week != self._week:
            self._leave_file()
            self._week = week
        if self._fd is None and self._folder.is_dir():
            self._goes_on()
        self._append(lines)
        return self._path

    async def recover(self) -> None:
        if self._has_failed:  # of what has failed, nothing will be recorded
            with self._reporting():
                await self._begin(self._recover)

    def _recover(self) -> None:
        if self._has_failed:
            self.open()
            self._write_durably([_line.text(_ROOM)])
            self._has_failed = False

    def _begin(self, work: Callable[[], T]) -> Begun[T]:
        """Begin work in the thread of this file, which does one after the other."""
        if self._thread is None:
            self._thread = BlockingThread(LoopCalls.of_running_loop(), name="voiceflow-journal-file")
        self._begun = begun = self._thread.begin(work)
        return begun

    async def follow(self, history: str) -> None:
        if history == self._history:
            return
        self._history = history  # the headers of later files have it too
        with self._reporting():
            self._write([_line.text({"history": history})])

    def record_committed(self, committed: Sequence[bool]) -> None:
        self._is_recorded = True
        numbers = list(enumerate(committed, self._first))
        void = [number for number, done in numbers if not done]
        record: dict[str, Any] = {"void": void} if void else {}
        record |= next(({"kept": number} for number, done in reversed(numbers) if done), dict[str, Any]())
        try:
            self._write([_line.text(record)])
        except OSError as error:
            self._size = self._full  # as in `_reporting`: no entry must continue a line that was cut off
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

    def _append(self, lines: Sequence[str]) -> None:
        """Append lines durably, to a new file if there is none, or this one is full or gone. This blocks."""
        if not self._has_room:
            self.open()
        self._write_durably(lines)

    def _is_gone(self) -> bool:
        """Whether the file was deleted or moved, so that no guard would find its entries. It then counts as full."""
        with suppress(FileNotFoundError):
            if os.path.samestat(self._path.stat(), os.fstat(self._descriptor)):
                return False
        _log.warning(
            "the journal file of this worker was deleted or moved, so a loss of its calls will not be detected; "
            "a new file begins",
            file=str(self._path),
        )
        self._size = self._full
        return True

    def _write_durably(self, lines: Sequence[str]) -> None:
        self._write(lines)
        sync(self._descriptor)

    def _write(self, lines: Sequence[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()
        self._size += len(data)
        while data:
            data = data[os.write(self._descriptor, data) :]

    @property
    def _descriptor(self) -> int:
        if self._fd is None:
            raise OSError("the file was closed")
        return self._fd

    @contextmanager
    def _reporting(self) -> Generator[None]:
        """Translate the errors of a write. Raises JournalFileError."""
        try:
            yield
        except OSError as error:
            # The next line goes to a new file: it must not continue a line that was cut off.
            self._size = self._full
            whose, so = ("orders", "") if self._is_of_orders else ("this worker", ", so no calls are sent")
            is_other = isinstance(error, PermissionError)
            remedy = "run this as the user to whom the folder belongs" if is_other else "free space on that disk"
            raise JournalFileError(
                f"the journal file of {whose} in {self._folder} cannot be written ({error.strerror or error}){so}: "
                f"{remedy}, or {Remedy.SET_STATE_DIR} to a folder on another disk"
            ) from error


def _entry_lines(jobs: Sequence[Job], first: int) -> list[str]:
    """The lines of entries that are numbered from `first`."""
    return [
        _line.text({"n": number, "head": head_of(job), "record": record_of(job), "body": job.body})
        for number, job in enumerate(jobs, first)
    ]


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
    erased = {number for number, entry in content.entries.items() if entry["head"][0].encode() in job_ids}
    left = sorted(content.entries.keys() - erased - content.void)
    lines: list[bytes] = []
    has_orders = False
    for line in data.split(b"\n")[:-1]:
        with suppress(ValueError):  # a line that cannot be read is left out
            fields = _fields_of(line)
            is_order = "order" in fields
            if fields.get("n") not in erased and not (is_order and _is_named(line, job_ids)):
                lines.append(line)
                has_orders = has_orders or is_order
    if not (left or has_orders):
        path.unlink()
        return
    kept = [number for number in left if number <= content.kept]
    if content.kept in erased and kept:
        lines.append(_line.text({"kept": kept[-1]}).encode())
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
        if start > len(head) and content.kept not in content.entries and not content.orders:
            file.seek(0)
            content = _content(file, path)
    return content


def _content(lines: Iterable[bytes], path: Path) -> _Content:
    content = _Content()
    for line in lines:
        if not line.endswith(b"\n"):  # it was cut off
            break
        try:
            fields = _fields_of(line)
        except ValueError:
            _log.warning(
                "a line of a journal file cannot be read, and is left out",
                file=str(path),
                line=line[:80].decode("ascii", "replace"),
            )
            continue
        if "voiceflow_journal" in fields:
            if fields["voiceflow_journal"] > (ORDERS_FORMAT if path.parent.name == ORDERS else FORMAT):
                raise StoreVersionError(
                    f"the journal file {path} was written by a newer version of voiceflow-worker; upgrade this "
                    "installation"
                )
            content.history, content.writer = fields.get("history", ""), fields.get("writer", "")
            content.written_as = fields["voiceflow_journal"]
        elif "history" in fields:
            content.history = fields["history"]
        elif "n" in fields:
            content.entries[fields["n"]] = fields
        elif "order" in fields:
            content.orders.append(fields)
        elif "fates" in fields:
            if (of_all := fields["fates"].pop(_ALL, None)) is not None:
                content.fates = {each["order"]: of_all for each in content.orders} | content.fates
            content.fates |= fields["fates"]
        else:
            content.kept = fields.get("kept", content.kept)
            content.void.update(fields.get("void", ()))
    return content


_ALL = "*"
"""All orders of a file of which no fate is noted."""
_ORDERS_HEAD = f'{{"voiceflow_journal":{ORDERS_FORMAT},'.encode()
_ERASES = f'{{"action":"{FORGET}"'.encode()


def _order_line(order: LocalOrder) -> str:
    fields: dict[str, Any] = {"action": order.action, "order": order.token, "at": order.at, "store": order.store}
    fields |= {name: each for name in ("puts", "drops", "same", "names") if (each := getattr(order, name))}
    if order.job is not None:
        fields |= {"head": head_of(order.job), "record": record_of(order.job), "body": order.job.body}
    return _line.text(fields)


def _orders_of(path: Path, newest: bool) -> list[LocalOrder]:  # noqa: FBT001 - positional for a thread
    found: list[LocalOrder] = []
    with _looking_at(path):
        if newest:
            content = _read_end(path)
        else:
            with path.open("rb") as lines:
                content = _content(lines, path)
        is_open = content.written_as >= _WITH_FATES and _is_in_use(path)
        for each in content.orders:
            fate = content.fates.get(each["order"], Fate.HAD if content.written_as < _WITH_FATES else None)
            if fate == Fate.REFUSED or (fate is None and is_open):
                continue
            try:
                fields = {**each, "token": each["order"], "is_known": fate == Fate.HAD}
                order: LocalOrder = msgspec.convert(fields, LocalOrder)
                found.append(replace(order, job=_job_of(each)) if "head" in each else order)
            except (ValueError, KeyError, TypeError, StoreVersionError) as error:
                report_unreadable(f"order {each['order']} of the journal file {path.name}", error)
    return found


def _job_of(entry: Mapping[str, Any]) -> Job:
    return job_from(tuple(entry["head"]), entry["record"], entry["body"])


def _readable(entry: Mapping[str, Any], path: Path) -> Job | None:
    """The job in an entry. None if a newer version wrote the entry: workers of that version check it."""
    try:
        return _job_of(entry)
    except StoreVersionError as error:
        report_unreadable(f"entry {entry['n']} of the journal file {path.name}", error)
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
