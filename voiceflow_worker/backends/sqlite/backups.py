"""Backups of a store: making one while the store is in use, putting one back, and the hold that follows.

A backup is a checked copy of one state of the store, with a mark. However it is put in place, by `restore` or by hand,
the first process that writes to it holds its queues (`hold_if_put_back`): under each path and inode once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import apsw

from voiceflow_worker.backends.disk import sync_path
from voiceflow_worker.backends.record import from_micros, to_micros
from voiceflow_worker.backends.sqlite.connection import BUSY, SQL, Connection, translated, translating
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.opening import (
    index_of_log,
    log_of,
    open_file,
    open_reader,
    require_sound,
    require_store,
)
from voiceflow_worker.backends.sqlite.reading import current_record
from voiceflow_worker.backends.sqlite.write import FileWriting
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.gates import write_of_order
from voiceflow_worker.core.ports.controls import BACKUP, GATES, MADE, PLACE
from voiceflow_worker.errors import (
    InvalidInputError,
    StoreCorruptError,
    StoreUnavailableError,
)
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.text.wording import in_words

Progress = Callable[[int, int], None]
"""A function that is called with the amount of work done so far, and the total amount."""

_TO_DO = (
    "outcomes and new calls since then are missing. Opt-outs and other orders that stop calls, of the last 7 days, are "
    "carried out again: run `voiceflow doctor` on each machine, and as each user, that gave some. Start a worker: it "
    "puts in doubt what its journal files have as sent. Run `voiceflow reconcile`, which also puts in doubt the queued "
    "calls that the logs of 8x8 have; resolve the rest (`voiceflow calls resolve ID`), enqueue the files since then "
    "again, then run `voiceflow resume`"
)
"""What a person must do before the queue is resumed, for the reason of the holds."""
SKIPPED_SEQUENCES = 1_000_000_000
"""The gap that a restore leaves in the sequence of events. New events then come after the cursor of every reader of the
replaced file, so that none is missed."""
_PAGES = 500
"""The number of pages that are copied between two calls of `progress`, in a few milliseconds."""
_CHUNK = 4 * 1024 * 1024


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
        source = open_reader(path, timedelta(0))
        try:
            source.keep_log()
            require_store(source, path)
            # The transaction gives all steps the same state. Without it, each commit of another process would restart
            # the copy.
            source.run("BEGIN")
            source.rows("SELECT count(*) FROM sqlite_schema")
            calls = _copy_pages(source, path, temporary, now=now, progress=progress)
        finally:
            source.close()
        size = temporary.stat().st_size
        publish(temporary, target)
    return BackedUp(target, calls, size)


def _copy_pages(source: Connection, path: Path, temporary: Path, *, now: datetime, progress: Progress) -> int:
    with translating(temporary):
        copy = Connection(temporary)
        try:
            try:
                source.copy_to(copy, pages=_PAGES, progress=progress)
            except (apsw.CorruptError, apsw.NotADBError) as error:
                raise translated(error, path) from error
            # A file that is not in WAL mode can be read from a directory where nothing can be written.
            copy.pragma("journal_mode", "delete")
            _mark(copy, now)
            require_sound(copy, path)  # the store has the same pages, so a damaged copy means a damaged store
            calls: int = copy.rows(SQL["count_jobs"])[0][0]
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
    sync_path(temporary)
    temporary.rename(target)
    sync_path(target.parent)


def _mark(db: Connection, made_at: datetime | None) -> None:
    """Mark a copy as a backup to which nobody has written yet."""
    db.run(SQL["drop_backup_mark"])
    db.run(SQL["put"], (BACKUP, MADE, "", json.dumps(made_at and to_micros(made_at)), None))


# --- putting one back ---


def hold_if_put_back(db: Connection, path: Path) -> tuple[str, ...]:
    """Hold every queue of a backup to which nobody has written under this path and inode; returns their names.

    Which calls were sent after the backup, only the journal files of the workers know (`core/rollback.py`). Later
    events get sequences above all that a reader of the replaced file may have seen.
    """
    place = f"{path.stat().st_ino} {path.resolve()}"
    db.run("BEGIN IMMEDIATE")
    try:
        held: tuple[str, ...] = ()
        mark = db.rows(SQL["backup_mark"])
        if mark and not db.rows(SQL["backup_place"], (place,)):
            made, now = json.loads(mark[0][0]), SystemClock().now()
            when = "an unknown time" if made is None else in_words(from_micros(made))
            _skip_sequences(db)
            held = _hold_queues(db, reason=f"restored from a backup of {when}; {_TO_DO}", at=now)
            db.run(SQL["put"], (BACKUP, PLACE, place, str(to_micros(now)), None))
        db.run("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.run("ROLLBACK")
        raise
    return held


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The result of a restore.

    `made_at` is when the backup was made; None for a plain copy, where this is not recorded. `moved` are the files that
    were moved aside. `held` are the queues, all of which are held. `replaced` is False if there was no store at this
    path.
    """

    path: Path
    made_at: datetime | None
    calls: int
    moved: tuple[Path, ...]
    held: tuple[str, ...]
    replaced: bool


def restore(path: Path, source: Path, *, now: datetime, progress: Progress) -> Restored:
    """Put a copy of the backup `source` in the place of the store at `path`. Blocks; the store is locked meanwhile.

    The old files are moved aside, not deleted. The store is unchanged until the last steps, which rename files. Raises
    StoreUnavailableError while a process uses the store, StoreCorruptError or StoreVersionError for a backup that
    cannot be used, and OSError.
    """
    path, source = path.resolve(), source.resolve()
    _require_other_file(path, source)
    with unfinished(path) as temporary:
        _copy(source, temporary, progress)
        made_at, calls = _marked(temporary, source)
        with _locked(path):
            sync_path(temporary)
            replaced = path.exists()
            moved = _swap(temporary, path, at=now)
    db = open_file(path, lock_timeout=timedelta(seconds=1))[0]
    try:
        held = hold_if_put_back(db, path)
    finally:
        db.close()
    return Restored(path=path, made_at=made_at, calls=calls, moved=moved, held=held, replaced=replaced)


def _skip_sequences(db: Connection) -> None:
    """Skip sequence numbers: the next event gets one above all that a reader of the replaced file may have seen."""
    [(last,)] = db.rows(SQL["last_sequence"])
    db.run(SQL["begin_sequences"])
    db.run(SQL["skip_sequences"], (last + SKIPPED_SEQUENCES,))


def _hold_queues(db: Connection, *, reason: str, at: datetime) -> tuple[str, ...]:
    """Hold every queue until a person resumes it, and return the names of the queues."""
    writing = FileWriting(Transaction(db), SystemClock())
    names = sorted(row[0] for row in db.rows(SQL["all_queues"]))
    for name in names:
        standing = current_record(db, GATES, name, to_micros(at))
        hold = Gate.of(name, None, GateState.HELD, since=at, reason=reason, kinds=frozenset({GateKind.MAY_LACK}))
        writing.answer(write_of_order(standing, hold, token=new_revision())[1], to_micros(at))
    writing.end()
    return tuple(names)


def _require_other_file(path: Path, source: Path) -> None:
    if not source.is_file():
        raise InvalidInputError(f"there is no file {source}; name the file of a backup")
    if source == path or (path.exists() and source.samefile(path)):
        raise InvalidInputError(f"{source} is the store itself; name a backup of it")
    if not path.parent.is_dir():
        raise InvalidInputError(f"the directory of the store does not exist; make it (mkdir -p {path.parent})")


def _copy(source: Path, temporary: Path, progress: Progress) -> None:
    """Copy the backup file, and the -wal file beside it if there is one."""
    for origin, target in ((source, temporary), (log_of(source), log_of(temporary))):
        with suppress(FileNotFoundError), origin.open("rb") as reading:
            size, done = origin.stat().st_size, 0
            with target.open("wb") as writing:
                target.chmod(0o600)
                while chunk := reading.read(_CHUNK):
                    writing.write(chunk)
                    done += len(chunk)
                    progress(done, size)


def _marked(temporary: Path, source: Path) -> tuple[datetime | None, int]:
    """Check a backup, and mark it anew; returns when it was made, and the number of its calls.

    Raises a StoreError if it is incomplete, damaged or too new.
    """
    try:
        with translating(source):
            db = Connection(temporary)
            try:
                require_store(db, source)
                require_sound(db, source)
                db.pragma("journal_mode", "delete")
                found = json.loads((db.rows(SQL["backup_mark"]) or [("null",)])[0][0])
                made_at = None if found is None else from_micros(found)
                _mark(db, made_at)
                calls: int = db.rows(SQL["count_jobs"])[0][0]
            finally:
                db.close()
    except StoreCorruptError as error:
        found = str(error).partition(". ")[0]
        raise StoreCorruptError(
            f"{source} cannot be restored: {found}. The store was not changed; name another backup"
        ) from error
    return made_at, calls


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """A context in which no other process has the store at `path`. Raises StoreUnavailableError for one in use."""
    if not path.exists():
        yield
        return
    db = Connection(path)
    try:
        # The WAL is evidence, so SQLite must not move it into the file.
        db.keep_log()
        try:
            db.run("PRAGMA locking_mode = EXCLUSIVE")
            db.run("BEGIN EXCLUSIVE")
            db.rows("SELECT count(*) FROM sqlite_schema")
            db.run("COMMIT")
        except BUSY as error:
            raise _in_use(path) from error
        except apsw.Error:
            pass  # a damaged file is replaced too
        yield
    finally:
        db.close()


def _in_use(path: Path) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the store {path} is in use by another process. Nothing was changed. Stop all workers, `serve` and other "
        f"programs that use the store, then restore again. `fuser {path}` names them. End frozen processes too (kill "
        "-9), because they could continue."
    )


def _swap(temporary: Path, path: Path, *, at: datetime) -> tuple[Path, ...]:
    """Move the old files aside, and give the restored file their name.

    The file is moved before its -wal file: without it, it would look like a sound but older store.
    """
    aside = path.with_name(f"{path.name}.before-restore-{at:%Y%m%dT%H%M%SZ}")
    if aside.exists():
        raise StoreUnavailableError(
            f"the replaced file would be kept as {aside}, which exists already. Nothing was changed. Wait a second, "
            "then restore again."
        )
    if path.exists():
        _like(temporary, path)
    moved: list[Path] = []
    for old, new in ((path, aside), (log_of(path), log_of(aside)), (index_of_log(path), index_of_log(aside))):
        with suppress(FileNotFoundError):
            old.rename(new)
            moved.append(new)
            sync_path(path.parent)
    try:
        os.link(temporary, path)  # fails if another process has made a store meanwhile
    except FileExistsError:
        raise StoreUnavailableError(
            f"another process has made a new store {path} meanwhile. Stop that process, and restore again"
        ) from None
    sync_path(path.parent)
    return tuple(moved)


def _like(temporary: Path, path: Path) -> None:
    """Give the restored file the mode and the owner of the replaced file."""
    found = path.stat()
    temporary.chmod(found.st_mode & 0o777)
    with suppress(PermissionError):
        os.chown(temporary, found.st_uid, found.st_gid)
