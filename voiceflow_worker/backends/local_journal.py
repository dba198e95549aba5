"""Journal files: JSON lines with numbers, which outlive a store that is rolled back.

A process keeps the file locked that it writes, and goes on with one of this week that no other one has locked. So there
are as many as processes wrote at once, and old ones are deleted. Each process begins with a line that has the writer
whose numbers follow, and the history of the store; one with a later history follows when another server has taken over.

The entry of a job is on the disk when the store has its number, before its POST leaves. So a line proves that the store
had the number. Damage is no error: what can be read counts. Each queue has a folder of files; those of orders are in
the folder `_orders`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import structlog
from anyio import to_thread

from voiceflow_worker.backends.record import Head, head_of, job_from, newer, record_of
from voiceflow_worker.backends.running import BlockingThread, LoopCalls
from voiceflow_worker.backends.store_url import (
    POSTGRES_SCHEMA,
    POSTGRES_SCHEMES,
    REDIS_SCHEMES,
    file_of,
    path_of,
    said_to_libpq,
    sync_path,
)
from voiceflow_worker.core.base.identity import new_worker_id
from voiceflow_worker.core.base.record_set import Codec, report_unreadable
from voiceflow_worker.core.ports.outside import (
    JOURNAL_FORMAT,
    ORDERS,
    JournalEntries,
    JournalLine,
    LocalJournal,
    LocalJournalFile,
    LocalJournalState,
    OrderLine,
)
from voiceflow_worker.errors import JournalFileError, SettingsError, StoreVersionError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.printable import HIDDEN, without_secrets

if TYPE_CHECKING:
    from voiceflow_worker.core.ports.store import Store
    from voiceflow_worker.settings import Settings

_log = structlog.get_logger("voiceflow.journal")

SUFFIX = ".journal"
FULL = 16 * 1024 * 1024
"""The size in bytes at which a file is closed and the next one is begun: about 15,000 calls."""
TAIL = 256 * 1024
"""The bytes of the last part of a file, which is read first: it has the newest entry."""
_ROOM = 64 * 1024
"""The bytes that are written, and taken back, to find out whether there is room for the next entries of jobs."""


# --- Lines -------------------------------------------------------------------------------------------------------


class Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A line: the beginning of what a process wrote, another history, numbers of others, or an entry."""

    n: int = 0
    voiceflow_journal: int = 0
    writer: str = ""
    history: str = ""
    senders: dict[str, int] = {}
    """The numbers of other senders that the store had."""
    ordered: OrderLine | None = None
    head: Head | None = None
    record: str = ""
    body: str = ""

    def job(self) -> Job:
        """Return the job in an entry. Raises StoreVersionError for one that cannot be read."""
        if self.head is None:
            raise newer(f"entry {self.n} of a journal file", ValueError("it has another form"))
        return job_from(tuple(cast("Any", self.head)), self.record, self.body)


LINE: Codec[Line] = Codec(Line)


@dataclass(slots=True)
class Content:
    """The content of a journal file, or of its last part. `number` is that of its newest entry."""

    writer: str = ""
    history: str = ""
    number: int = 0
    entries: dict[int, Line] = field(default_factory=dict[int, Line])
    damaged: int = 0
    """How many lines nobody can read."""
    senders: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, line: Line) -> None:
        self.writer = line.writer or self.writer
        if line.n:
            self.entries[line.n] = line
        self.number = max(self.number, line.n)
        self.history = line.history or self.history
        self.senders |= line.senders


def read_content(path: Path, *, whole: bool = False) -> Content:
    """Return the content of a file, or of its last part with the newest entries. Raises StoreVersionError."""
    with path.open("rb") as file:
        head = file.readline()
        start = max(file.seek(0, os.SEEK_END) - TAIL, 0)
        if start > len(head) and not whole:
            file.seek(start)
            file.readline()
            content = _content(chain([head], file), path)
            if content.number:
                return content
        file.seek(len(head))
        return _content(chain([head], file), path)


def _content(lines: Iterable[bytes], path: Path) -> Content:
    content, is_first = Content(), True
    for text in lines:
        if not text.endswith(b"\n"):  # it was cut off
            break
        try:
            line = LINE.value(text)
        except ValueError:
            line = Line()
        if line.voiceflow_journal != (JOURNAL_FORMAT if is_first or line.voiceflow_journal else 0):
            raise StoreVersionError(
                f"the journal file {path} cannot be read: it is damaged, or of another version of voiceflow-worker"
            )
        is_first = False
        if line == Line():
            content.damaged += 1
            shown = text[:80].decode("ascii", "replace")
            _log.warning("a line of a journal file cannot be read, and is left out", file=str(path), line=shown)
        content.add(line)
    return content


def _entries_of(path: Path) -> JournalEntries:
    content = Content()
    with _looking_at(path):
        content = read_content(path, whole=True)
    orders = [(number, each.ordered) for number, each in content.entries.items() if each.ordered]
    unread, newest = [0] * content.damaged, dict[str, tuple[int, Job]]()
    for number in sorted(content.entries):
        entry = content.entries.pop(number)  # a file takes three times its size, not five
        try:
            if entry.ordered is None:
                job = entry.job()
                newest.pop(job.id, None)
                newest[job.id] = number, job
        except StoreVersionError as error:
            unread.append(number)
            report_unreadable(f"entry {number} of the journal file {path.name}", error)
    return JournalEntries(list(newest.values()), orders, unread)


# --- Files -------------------------------------------------------------------------------------------------------


def journal_folder(store: Store, store_url: str, root: Path) -> Path:
    """Return the folder below `root` for the files that are written for a store under this URL: `<id>/<url>`."""
    return root / _folder_name(store.id) / _folder_name(identity_of(store_url))


def _folder_name(name: str) -> str:
    readable = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")[-60:]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def identity_of(store_url: str) -> str:
    """Return the name of a store, the same for all spellings of its URL, and different for every store."""
    scheme = store_url.partition(":")[0].lower()
    if scheme in {"sqlite", "file"}:
        return f"sqlite:{path_of(store_url).resolve()}"
    if scheme in POSTGRES_SCHEMES:
        return _identity_of_postgres(store_url)
    if scheme not in REDIS_SCHEMES:
        shown = without_secrets(store_url)
        # Where something is hidden, a part of a digest distinguishes the stores.
        odd = hashlib.sha256(store_url.encode()).hexdigest()[:6] if HIDDEN in shown else ""
        return shown + odd
    from voiceflow_worker.backends.redis.url import parse_url

    return parse_url(store_url).identity


def _identity_of_postgres(store_url: str) -> str:
    parts = urlsplit(store_url)
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    usual = said_to_libpq()
    user, _, hosts = parts.netloc.rpartition("@")
    named = asked.get("host") or asked.get("hostaddr") or unquote(hosts) or usual.get("host", "")
    ports = asked.get("port", "").split(",")
    nodes = list[str]()
    for number, host in enumerate(named.split(",")):
        port = ports[min(number, len(ports) - 1)] or usual.get("port", "5432")
        place = host if host.startswith("/") else host.lower()
        nodes.append(place if re.search(r"(?<!:):\d+$", place) else f"{place}:{port}")
    database = asked.get("dbname") or unquote(parts.path.strip("/")) or usual.get("dbname") or user.partition(":")[0]
    return f"postgresql:{','.join(sorted(nodes))}/{database}?schema={asked.get('schema', POSTGRES_SCHEMA)}"


def journal_files(store: Store, url: str, settings: Settings) -> JournalFiles:
    """Return the journal files of the store at a URL, in which this host records the calls that it sends.

    They are in the state directory. Without one, those of a SQLite store are beside its file, in `<file>.journals`, and
    others are in the user's state folder.
    """
    path = file_of(url)
    if path is None or settings.state_dir is not None:
        root = settings.state_folder()
    else:
        root = path.resolve().with_name(f"{path.resolve().name}.journals")
    return JournalFiles(journal_folder(store, url, root), shares=True)


class JournalFiles(LocalJournal):
    """The port `LocalJournal` in files below a folder, one folder per queue.

    With `shares`, the folder is a `journal_folder`, and two kinds of folders next to it are read too. Those of the same
    id under other URLs: another host has taken over the store, or its URL was written in another way. And those of the
    same URL with other ids: the store was emptied, and has got another id.
    """

    def __init__(self, folder: Path, *, shares: bool = False, full: int = FULL) -> None:
        self.folder = folder
        self._shares = shares
        self._full = full

    async def begin(self, queue: str, *, at: datetime, history: str = "") -> JournalFile:
        file = JournalFile(self.folder / queue, full=self._full)
        with _writing_to(file.folder):
            await to_thread.run_sync(partial(file.open, at=at, history=history))
        return file

    async def files(self, queue: str, *, since: datetime | None = None) -> Sequence[LocalJournalState]:
        return await to_thread.run_sync(self._read_all, queue, "" if since is None else f"{since:%G-W%V}")

    async def entries(self, name: str) -> JournalEntries:
        return await to_thread.run_sync(_entries_of, Path(name))

    async def prune(self, queue: str, *, before: datetime) -> None:
        await to_thread.run_sync(self._prune, queue, before)

    def _paths(self, queue: str) -> list[Path]:
        """Return the files of a queue; those of all queues for `*`."""
        folders = {self.folder}
        if self._shares:
            same_id = self.folder.parent
            folders |= {*same_id.glob("*"), *same_id.parent.glob(f"*/{self.folder.name}")}
        return sorted(path for folder in folders for path in folder.glob(f"{queue}/*{SUFFIX}"))

    def _read_all(self, queue: str, since: str) -> list[LocalJournalState]:
        found: list[LocalJournalState] = []
        for path in [each for each in self._paths(queue) if each.name >= since]:
            with _looking_at(path):
                url, content, problem, digest = path.parents[1].name, Content(), "", ""
                try:
                    content = read_content(path)
                except StoreVersionError as error:
                    problem, digest = str(error), hashlib.sha256(bytes(path) + path.read_bytes()).hexdigest()[:32]
                is_of_store = path.parents[2] == self.folder.parent
                found.append(
                    LocalJournalState(
                        name=str(path),
                        writer=content.writer,
                        number=content.number,
                        other_store=None if url == self.folder.name else url,
                        history=content.history if is_of_store else "",
                        senders=content.senders if is_of_store else {},
                        problem=problem,
                        content=digest,
                    )
                )
        return found

    def _prune(self, queue: str, before: datetime) -> None:
        for path in self._paths(queue):
            with _looking_at(path):
                if path.name < f"{before:%G-W%V}" and not _is_in_use(path):
                    path.unlink()


class JournalFile(LocalJournalFile):
    """The port `LocalJournalFile`: a file that this process has locked."""

    def __init__(self, folder: Path, *, full: int) -> None:
        self.folder = folder
        self.writer: str = ""
        self.number: int = 0
        self.has_failed: bool = False
        self._full = full
        self._senders: dict[str, int] = {}
        self._repeated_at = 0
        self._week = self._history = ""
        self._path = folder
        self._fd: int | None = None
        self._size = 0
        self._thread: BlockingThread | None = None

    def open(self, *, at: datetime, history: str) -> None:
        """Take the first file of this week that is not full, and that nobody has locked; or begin one. This blocks."""
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
        content = Content()
        if size:
            try:
                content = read_content(path)
            except StoreVersionError:
                return False
            if size >= self._full:
                return False
            os.ftruncate(fd, os.pread(fd, size, 0).rfind(b"\n") + 1)  # of a line that was cut off
        self.writer = content.writer or self.writer or new_worker_id()
        self.number = content.number
        self._fd, self._path, self._size, self._history = fd, path, os.fstat(fd).st_size, history
        self._senders, self._repeated_at = content.senders, self._size
        begins = Line(voiceflow_journal=JOURNAL_FORMAT, writer=self.writer, history=history, senders=self._senders)
        self._write([begins])
        left = 0 if self.folder.name == ORDERS else _ROOM
        try:
            while left:
                left -= os.write(fd, b" " * left)
            os.fsync(fd)
        finally:
            os.ftruncate(fd, self._size)
        if not size:
            sync_path(self.folder)
        return True

    def is_over(self, *, at: datetime) -> bool:
        if self._fd is not None and not _is_at(self._path, self._fd):
            _log.warning(
                "the journal file of this worker was deleted or moved, so a loss of its calls will not be detected; "
                "a new file begins",
                file=str(self._path),
            )
            return True
        return self._fd is None or self.has_failed or self._size >= self._full or self._week != f"{at:%G-W%V}"

    def append(self, lines: Sequence[tuple[int, JournalLine]]) -> Awaitable[None]:
        entries = [_entry(number, line) for number, line in lines]
        if self._senders and self._size - self._repeated_at > TAIL // 4:  # in the part that is read first
            entries.append(Line(senders=self._senders))
            self._repeated_at = self._size
        if self._thread is None:
            self._thread = BlockingThread(LoopCalls.of_running_loop(), name="voiceflow-journal-file")
        return self._appended(self._thread.begin(partial(self._write_durably, entries)))

    async def _appended(self, ended: Callable[[], Awaitable[None]]) -> None:
        with self._noting_failure():
            await ended()

    @contextmanager
    def _noting_failure(self) -> Generator[None]:
        """Note that an append has failed, or that nobody has seen its end. Raises JournalFileError."""
        try:
            with _writing_to(self.folder):
                yield
        except BaseException:
            self.has_failed = True
            raise

    def note(self, senders: Mapping[str, int]) -> None:
        self._senders |= senders
        with self._noting_failure():
            self._write([Line(senders=dict(senders))])

    async def follow(self, history: str) -> None:
        if history != self._history:
            self._history = history
            with _writing_to(self.folder):
                self._write([Line(history=history)])

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._thread is not None:
            self._thread.end()
            self._thread = None

    def _write_durably(self, lines: Sequence[Line]) -> None:
        self._write(lines)
        os.fsync(self._descriptor)

    def _write(self, lines: Sequence[Line]) -> None:
        data = "".join(f"{LINE.text(line)}\n" for line in lines).encode()
        self._size += len(data)
        while data:
            data = data[os.write(self._descriptor, data) :]

    @property
    def _descriptor(self) -> int:
        if self._fd is None:
            raise OSError("the file was closed")
        return self._fd


def _entry(number: int, line: JournalLine) -> Line:
    if isinstance(line, OrderLine):
        return Line(n=number, ordered=line)
    return Line(n=number, head=head_of(line), record=record_of(line), body=line.body)


def _is_at(path: Path, fd: int) -> bool:
    """Return True if an open file is still the one with this name: others may have deleted it, or replaced it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(fd))
    return False


def _is_in_use(path: Path) -> bool:
    """Return True if a process has the file locked."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def _writing_to(folder: Path) -> Generator[None]:
    """Translate the errors of a write. Raises JournalFileError."""
    try:
        yield
    except OSError as error:
        whose, so = ("orders", "") if folder.name == ORDERS else ("this worker", ", so no calls are sent")
        raise JournalFileError(
            f"the journal file of {whose} in {folder} cannot be written ({error.strerror or error}){so}: check that "
            "disk and the owner of the folder, or set VOICEFLOW_STATE_DIR to a folder that this user can write"
        ) from error


@contextmanager
def _looking_at(path: Path) -> Generator[None]:
    """Skip a file that is gone or of another version. Raises SettingsError for a file that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        pass
    except StoreVersionError as error:
        report_unreadable(f"the journal file {path.name}", error)
    except OSError as error:
        raise SettingsError(
            f"the journal file {path} cannot be read or written ({error.strerror or error}): check that disk, and "
            "that the file belongs to the user of this worker"
        ) from error
