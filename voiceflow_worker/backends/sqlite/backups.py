"""Backups of a store: making one while the store is in use, and restoring one.

A backup is a checked copy of one state of the store. Restoring one replaces a store that no process uses, and keeps the
evidence in the old store.
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

from voiceflow_worker.backends.record import from_micros, to_micros
from voiceflow_worker.backends.sqlite.connection import BUSY, SQL, Connection, translated, translating
from voiceflow_worker.backends.sqlite.opening import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    index_of_log,
    log_of,
    open_file,
    open_reader,
    require_sound,
    require_store,
)
from voiceflow_worker.backends.sqlite.takeover import (
    Progress,
    TakenOver,
    hold_queues,
    skip_sequences,
    take_over,
    waiting_jobs,
)
from voiceflow_worker.errors import (
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.jobs.policy import CallPolicy

NAMESPACE, MADE = "backup", "made"
"""The namespace and the key of the record that marks a backup. Its value is when the backup was made, in microseconds
since 1970 UTC. A store in use does not have it."""

_PAGES = 500
"""The number of pages that are copied between two calls of `progress`, in a few milliseconds."""
_CHUNK = 4 * 1024 * 1024
_PROCESSES = Path("/proc")


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
            copy.run(SQL["put"], (NAMESPACE, MADE, "", json.dumps(to_micros(now)), None))
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


# --- restoring ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The result of a restore.

    `made_at` is when the backup was made; None for a plain copy, where this is not recorded. `moved` are the files that
    were moved aside. `held` are the queues, all of which are held, and `waiting` is the number of calls that would be
    sent without these holds. `replaced` is False if there was no store at this path.
    """

    path: Path
    made_at: datetime | None
    calls: int
    waiting: int
    moved: tuple[Path, ...]
    held: tuple[str, ...]
    taken: TakenOver
    replaced: bool


@dataclass(slots=True)
class _Replaced:
    """The locked file that will be replaced. `db` is None if SQLite cannot read it. `sound`: the file is undamaged."""

    db: Connection | None
    sound: bool


def restore(
    path: Path,
    source: Path,
    *,
    clock: Callable[[], datetime],
    policy: CallPolicy,
    progress: Progress,
    reason: Callable[[datetime | None, TakenOver | None], str],
) -> Restored:
    """Replace the store at `path` with a copy of the backup `source`. Blocks; the store is locked meanwhile.

    The copy gets the calls that are further in the store, and all its queues are held. The old files are moved aside,
    not deleted. The store is unchanged until the last step, a rename. `reason` makes the reason of the holds from the
    time of the backup and what was taken over (None without a store). Raises StoreUnavailableError while a process uses
    the store, StoreCorruptError or StoreVersionError for a backup that cannot be used, and OSError.
    """
    path, source = path.resolve(), source.resolve()
    _require_other_file(path, source)
    with unfinished(path) as temporary:
        _copy(source, temporary, progress)
        made_at = _checked(temporary, source)
        with _replaced(path) as replaced:
            db = open_file(temporary, lock_timeout=timedelta(0))[0]
            try:
                taken = _take(replaced, db, at=clock(), policy=policy, progress=progress)
                db.run("BEGIN IMMEDIATE")
                db.run(SQL["drop_backup_mark"])  # a store in use does not have the mark
                held = hold_queues(db, reason=reason(made_at, taken if replaced is not None else None), at=clock())
                db.run("COMMIT")
                require_sound(db, temporary)
                calls: int = db.rows(SQL["count_jobs"])[0][0]
                waiting = waiting_jobs(db)
                db.pragma("journal_mode", "delete")
            finally:
                db.close()
            sync(temporary)
            moved = _swap(temporary, path, replaced, at=clock())
    return Restored(
        path=path,
        made_at=made_at,
        calls=calls,
        waiting=waiting,
        moved=moved,
        held=tuple(held),
        taken=taken,
        replaced=replaced is not None,
    )


def _require_other_file(path: Path, source: Path) -> None:
    if not source.is_file():
        raise InvalidInputError(f"there is no file {source}; name the file of a backup")
    if source == path or (path.exists() and source.samefile(path)):
        raise InvalidInputError(f"{source} is the store itself; name a backup of it")
    if not path.parent.is_dir():
        raise InvalidInputError(f"the directory of the store does not exist; make it (mkdir -p {path.parent})")
    if pids := holders(source):
        raise InvalidInputError(
            f"{source} is in use by process {_listed(pids)}, so a copy could be inconsistent. "
            f"{Remedy.MAKE_BACKUP.sentence}, and restore the backup"
        ).remedied(Remedy.MAKE_BACKUP)


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


def _checked(temporary: Path, source: Path) -> datetime | None:
    """Check a backup, and return when it was made. Raises a StoreError if it is incomplete, damaged or too new."""
    try:
        with translating(source):
            db = Connection(temporary)
            try:
                require_store(db, source)
                require_sound(db, source)
                db.pragma("journal_mode", "delete")
                made = db.rows(SQL["backup_mark"])
            finally:
                db.close()
    except StoreCorruptError as error:
        found = str(error).partition(". ")[0]
        raise StoreCorruptError(
            f"{source} cannot be restored: {found}. The store was not changed; name another backup"
        ) from error
    return from_micros(json.loads(made[0][0])) if made else None


@contextmanager
def _replaced(path: Path) -> Generator[_Replaced | None]:
    """A context in which the store at `path` is locked against other processes. It gives None if there is no store."""
    if not path.exists():
        yield None
        return
    db: Connection | None = None
    try:
        db = _locked(path)
        if holders(path):
            raise _in_use(path)
        yield _Replaced(db, sound=db is not None and _is_sound(db, path))
    finally:
        if db is not None:
            db.close()


def _locked(path: Path) -> Connection | None:
    """A connection with an exclusive lock; None if SQLite cannot read the file. Raises an error for a file in use."""
    db = Connection(path)
    try:
        # The WAL is evidence, so SQLite must not move it into the file.
        db.keep_log()
        db.run("PRAGMA locking_mode = EXCLUSIVE")
        db.run("BEGIN EXCLUSIVE")
        db.rows("SELECT count(*) FROM sqlite_schema")
        db.run("COMMIT")
        ours = db.pragma("application_id") == APPLICATION_ID and db.pragma("user_version") == SCHEMA_VERSION
    except BUSY as error:
        db.close()
        raise _in_use(path) from error
    except apsw.Error:
        ours = False
    if not ours:
        db.close()
        return None
    return db


def _in_use(path: Path) -> StoreUnavailableError:
    pids = holders(path)
    who = f"process {_listed(pids)}" if pids else "a process of another user or container"
    return StoreUnavailableError(
        f"the store {path} is in use by {who}. Nothing was changed. Stop all workers, `serve` and other programs that "
        "use the store, then restore again. End frozen processes too (kill -9), because they could continue."
    )


def _take(
    replaced: _Replaced | None,
    db: Connection,
    *,
    at: datetime,
    policy: CallPolicy,
    progress: Progress,
) -> TakenOver:
    if replaced is None:
        return TakenOver(was_read=False)
    if replaced.db is not None and replaced.sound:
        try:
            return take_over(replaced.db, db, at=at, policy=policy, progress=progress)
        except StoreVersionError:
            db.run("ROLLBACK")  # a row cannot be read, so the file counts as unread
    skip_sequences(db)
    return TakenOver(was_read=False)


def _swap(temporary: Path, path: Path, replaced: _Replaced | None, *, at: datetime) -> tuple[Path, ...]:
    """Move the old files aside, and rename the restored file.

    The WAL of a sound file is first moved into it (a checkpoint), and the file keeps its name until the rename. A
    damaged file is moved aside before its -wal file: without the -wal file, it could look like a sound but older store.
    """
    aside = path.with_name(f"{path.name}.before-restore-{at:%Y%m%dT%H%M%SZ}")
    moves = [(log_of(path), log_of(aside)), (index_of_log(path), index_of_log(aside))]
    if aside.exists():
        raise StoreUnavailableError(
            f"the replaced file would be kept as {aside}, which exists already. Nothing was changed. Wait a second, "
            "then restore again."
        )
    moved: list[Path] = []
    if replaced is not None:
        _like(temporary, path)
        if replaced.db is not None and replaced.sound:
            replaced.db.rows("PRAGMA wal_checkpoint(TRUNCATE)")  # the file is then complete without its WAL
            os.link(path, aside)
        else:
            path.rename(aside)
        sync(path.parent)
        moved.append(aside)
    for old, new in moves:
        with suppress(FileNotFoundError):
            old.rename(new)
            moved.append(new)
    sync(path.parent)
    _name(temporary, path, over=replaced is not None and replaced.sound)
    sync(path.parent)
    return tuple(moved)


def _is_sound(db: Connection, path: Path) -> bool:
    try:
        require_sound(db, path)
    except (apsw.Error, StoreError):
        return False
    return True


def _name(temporary: Path, path: Path, *, over: bool) -> None:
    if over:
        temporary.rename(path)
        return
    try:
        os.link(temporary, path)  # fails if another process has made a store meanwhile
    except FileExistsError:
        raise StoreUnavailableError(
            f"another process has made a new store {path} meanwhile. Stop that process, and restore again"
        ) from None


def _like(temporary: Path, path: Path) -> None:
    """Give the restored file the mode and the owner of the replaced file."""
    found = path.stat()
    temporary.chmod(found.st_mode & 0o777)
    with suppress(PermissionError):
        os.chown(temporary, found.st_uid, found.st_gid)


def _listed(pids: list[int]) -> str:
    return ", ".join(map(str, pids))


def holders(path: Path) -> list[int]:
    """The other processes on this machine that have the file, its -wal file or its -shm file open, as /proc shows.

    This includes frozen processes and processes without a lock, but not the processes of other users.
    """
    wanted = {identity for each in (path, log_of(path), index_of_log(path)) if (identity := _identity(each))}
    own = os.getpid()
    return sorted(
        int(process.name)
        for process in _PROCESSES.glob("[0-9]*")
        if int(process.name) != own and any(_identity(file) in wanted for file in _open_files(process))
    )


def _open_files(process: Path) -> list[Path]:
    try:
        return list((process / "fd").iterdir())
    except OSError:  # the process has ended, or belongs to another user
        return []


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
