"""Backups of a store: making one while the store is in use, putting one back, and the hold that follows.

A backup is a checked copy of one state of the store, with a mark. However it is put in place, by `restore` or by hand,
the first process that writes to it holds its queues (`hold_if_put_back`): under each path and inode once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import apsw

from voiceflow_worker.backends.record import from_micros, to_micros
from voiceflow_worker.backends.sqlite.connection import BUSY, SQL, Connection, translating
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.opening import (
    index_of_log,
    log_of,
    open_file,
    require_sound,
    require_store,
)
from voiceflow_worker.backends.sqlite.reading import current_record
from voiceflow_worker.backends.sqlite.write import FileWriting
from voiceflow_worker.backends.store_url import sync_path
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.gates import write_of_order
from voiceflow_worker.core.ports.controls import BACKUP, GATES, MADE, PLACE
from voiceflow_worker.errors import InvalidInputError, StoreCorruptError, StoreUnavailableError
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.text.wording import in_words

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


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A finished backup, with the number of its calls and its size in bytes."""

    path: Path
    calls: int
    size: int


def back_up(path: Path, target: Path, *, now: datetime) -> BackedUp:
    """Copy the store at `path` to `target`, and replace a file of that name. Blocks; the store may be in use meanwhile.

    The copy has the state of the store at the beginning. It gets its name only after it was checked and is on the disk.
    Raises a StoreError about the store or the copy, and OSError if the file cannot be made.
    """
    with unfinished(target) as temporary, translating(path):
        source = Connection(path)
        try:
            source.keep_log()
            require_store(source, path)
            source.run("VACUUM INTO ?", (str(temporary),))
        finally:
            source.close()
        copy = Connection(temporary)
        try:
            copy.run(SQL["drop_backup_mark"])
            copy.run(SQL["put"], (BACKUP, MADE, "", str(to_micros(now)), None))
            require_sound(copy, path)  # what is wrong in the copy is wrong in the store
            calls: int = copy.rows(SQL["count_jobs"])[0][0]
        finally:
            copy.close()
        size = temporary.stat().st_size
        sync_path(temporary)
        temporary.rename(target)
        sync_path(target.parent)
    return BackedUp(target, calls, size)


@contextmanager
def unfinished(target: Path) -> Generator[Path]:
    """Yield a new file beside `target`, with mode 0600. At the end, the file is deleted if it still exists."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        yield temporary
    finally:
        journal = temporary.with_name(f"{temporary.name}-journal")
        for each in (temporary, log_of(temporary), index_of_log(temporary), journal):
            each.unlink(missing_ok=True)


def hold_if_put_back(db: Connection, path: Path) -> tuple[str, ...]:
    """Hold every queue of a backup to which nobody has written under this path and inode; return their names.

    Which calls were sent after the backup, only the journal files of the workers know (`core/rollback.py`). Later
    events get sequences above all that a reader of the replaced file may have seen.
    """
    place = f"{path.stat().st_ino} {path.resolve()}"
    db.run("BEGIN IMMEDIATE")
    try:
        held: tuple[str, ...] = ()
        mark = db.rows(SQL["backup_mark"])
        if mark and not db.rows(SQL["backup_place"], (place,)):
            now, when = SystemClock().now(), in_words(from_micros(int(mark[0][0])))
            [(last,)] = db.rows(SQL["last_sequence"])
            db.run(SQL["begin_sequences"])
            db.run(SQL["skip_sequences"], (last + SKIPPED_SEQUENCES,))
            held = _hold_queues(db, reason=f"restored from a backup of {when}; {_TO_DO}", at=now)
            db.run(SQL["put"], (BACKUP, PLACE, place, str(to_micros(now)), None))
        db.run("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.run("ROLLBACK")
        raise
    return held


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The result of a restore.

    `made_at` is when the backup was made. `moved` are the files that were moved aside. `held` are the queues: all.
    """

    path: Path
    made_at: datetime
    calls: int
    moved: tuple[Path, ...]
    held: tuple[str, ...]


def restore(path: Path, source: Path, *, now: datetime) -> Restored:
    """Put a copy of the backup `source` in the place of the store at `path`. Blocks; the store is locked meanwhile.

    The old files are moved aside, not deleted. The store is unchanged until the last steps, which rename files. Raises
    StoreUnavailableError while a process uses the store, StoreCorruptError or StoreVersionError for a backup that
    cannot be used, and OSError.
    """
    path, source = path.resolve(), source.resolve()
    _require_other_file(path, source)
    with unfinished(path) as temporary:
        shutil.copyfile(source, temporary)
        made_at, calls = _checked(temporary, source)
        sync_path(temporary)
        with _locked(path):
            moved = _swap(temporary, path, at=now)
    db = open_file(path)[0]
    try:
        held = hold_if_put_back(db, path)
    finally:
        db.close()
    return Restored(path=path, made_at=made_at, calls=calls, moved=moved, held=held)


def _require_other_file(path: Path, source: Path) -> None:
    if not source.is_file():
        raise InvalidInputError(f"there is no file {source}; name the file of a backup")
    if source == path or (path.exists() and source.samefile(path)):
        raise InvalidInputError(f"{source} is the store itself; name a backup of it")
    if not path.parent.is_dir():
        raise InvalidInputError(f"the directory of the store does not exist; make it (mkdir -p {path.parent})")


def _checked(temporary: Path, source: Path) -> tuple[datetime, int]:
    """Return when a backup was made, and the number of its calls. Nobody has written under the path of the copy yet.

    Raises a StoreError if it is no backup, damaged or of another version.
    """
    try:
        with translating(source):
            db = Connection(temporary)
            try:
                require_store(db, source)
                require_sound(db, source)
                found = db.rows(SQL["backup_mark"])
                if not found:
                    raise StoreCorruptError("it is no backup, but a copy of a store: `voiceflow backup` makes one")
                calls: int = db.rows(SQL["count_jobs"])[0][0]
                db.pragma("journal_mode", "delete")
            finally:
                db.close()
    except StoreCorruptError as error:
        said = str(error).partition(". ")[0]
        raise StoreCorruptError(
            f"{source} cannot be restored: {said}. The store was not changed; name another backup"
        ) from error
    return from_micros(int(found[0][0])), calls


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Keep other processes off the store at `path` in the block. Raises StoreUnavailableError for one in use."""
    if not path.exists():
        yield
        return
    db = Connection(path)
    try:
        db.keep_log()  # the WAL is evidence: SQLite must not move it into the file
        try:
            db.run("PRAGMA locking_mode = EXCLUSIVE")
            db.run("BEGIN EXCLUSIVE")
            db.rows("SELECT count(*) FROM sqlite_schema")
            db.run("COMMIT")
        except BUSY as error:
            raise StoreUnavailableError(
                f"the store {path} is in use by another process. Nothing was changed. Stop all workers, `serve` and "
                f"other programs that use the store, then restore again. `fuser {path}` names them. End frozen "
                "processes too (kill -9), because they could continue."
            ) from error
        except apsw.Error:
            pass  # a damaged file is replaced too
        yield
    finally:
        db.close()


def _swap(temporary: Path, path: Path, *, at: datetime) -> tuple[Path, ...]:
    """Move the old files aside, and give the restored file their name, mode and owner.

    The file is moved before its -wal file: without it, it would look like a sound but older store.
    """
    aside = path.with_name(f"{path.name}.before-restore-{at:%Y%m%dT%H%M%SZ}")
    if aside.exists():
        raise StoreUnavailableError(
            f"the replaced file would be kept as {aside}, which exists already. Nothing was changed. Wait a second, "
            "then restore again."
        )
    if path.exists():
        found = path.stat()
        temporary.chmod(found.st_mode & 0o777)
        with suppress(PermissionError):
            os.chown(temporary, found.st_uid, found.st_gid)
    moved: list[Path] = []
    for old, new in ((path, aside), (log_of(path), log_of(aside)), (index_of_log(path), index_of_log(aside))):
        with suppress(FileNotFoundError):
            old.rename(new)
            moved.append(new)
            sync_path(path.parent)
    temporary.rename(path)
    sync_path(path.parent)
    return tuple(moved)
