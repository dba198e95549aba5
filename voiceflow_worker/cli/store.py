"""`voiceflow backup` and `voiceflow restore`: copy a SQLite store that is in use, and replace it with a copy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.backends.registry import PAUSE, StoreWait
from voiceflow_worker.backends.store_url import file_of
from voiceflow_worker.cli.opening import require_store, store_wait
from voiceflow_worker.cli.options import Flag, WholeStoreOptions
from voiceflow_worker.cli.output import meter
from voiceflow_worker.errors import InvalidInputError, SettingsError, StoreReadOnlyError, StoreUnavailableError
from voiceflow_worker.model.text.wording import count_of, in_words, rfc3339

if TYPE_CHECKING:
    from voiceflow_worker.backends.sqlite.backups import BackedUp, Restored
    from voiceflow_worker.backends.sqlite.takeover import TakenOver
    from voiceflow_worker.settings import Settings


MEGABYTE = 1_000_000

BackupFile = Annotated[Path, Parameter(name="FILE", help="The file of the backup.")]


def backup(
    file: BackupFile,
    /,
    *,
    force: Annotated[bool, Flag] = False,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> None:
    """Copy a SQLite store into a file, while it is in use.

    The copy is consistent and checked. `voiceflow restore` replaces the store with it.

    Args:
        force: Replace FILE if it exists.

    Examples:
        voiceflow backup calls-monday.db
        voiceflow backup /backups/calls.db --force --store sqlite:////var/lib/voiceflow/calls.db
    """
    settings = common.settings()
    path = path_of_store(settings, to="copy")
    require_store(settings)
    target = file.absolute()
    _require_place(target, path, force=force)
    made = _made(path.resolve(), target, wait=store_wait(settings))
    common.output().result(
        {"store": str(path), "backup": str(made.path), "calls": made.calls, "bytes": made.size},
        f"{count_of(made.calls, 'call')} in {made.path} ({made.size / MEGABYTE:.1f} MB), checked",
    )


def _made(path: Path, target: Path, *, wait: StoreWait) -> BackedUp:
    from voiceflow_worker.backends.sqlite.backups import back_up

    while True:
        with meter("copying") as show:
            try:
                return back_up(
                    path,
                    target,
                    now=datetime.now(UTC),
                    progress=lambda done, total: show(done, total, f"{done} of {total} pages"),
                )
            except StoreUnavailableError as error:
                if not wait.goes_on(error):
                    raise
            except OSError as error:
                raise StoreReadOnlyError(f"the backup {target} cannot be written: {error.strerror or error}") from error
        time.sleep(PAUSE)


def path_of_store(settings: Settings, *, to: str) -> Path:
    """The file of the store. Raises SettingsError if there is none; `to` is `copy` or `restore`, for its message."""
    path = file_of(settings.store)
    if path is not None:
        return path
    if settings.store.partition(":")[0].lower() == "memory":
        raise SettingsError(f"a store in memory ends with its process: there is nothing to {to}")
    raise SettingsError(
        f"there is no file to {to}: this store is on a server. Back up the server as its manual describes: PostgreSQL "
        "with pg_dump or a base backup, Redis by a copy of its AOF or RDB file. Before workers start on an older copy, "
        "read docs/stores.md (Upgrade, backup, restore)"
    )


def _require_place(target: Path, path: Path, *, force: bool) -> None:
    if target.is_dir():
        raise InvalidInputError(f"{target} is a directory: name a file in it")
    if target.exists() and path.exists() and target.samefile(path):
        raise InvalidInputError(f"{target} is the store itself: name another file")
    if os.path.lexists(target) and not force:
        raise InvalidInputError(f"{target} exists: name another file, or give --force to replace it")
    if not target.parent.is_dir():
        raise InvalidInputError(f"there is no directory {target.parent}. Create it: mkdir -p {target.parent}")


def restore(
    file: Annotated[Path, Parameter(name="FILE", help="The backup. It stays unchanged.")],
    /,
    *,
    common: WholeStoreOptions = WholeStoreOptions(),
) -> None:
    """Replace a SQLite store with a backup.

    Afterwards every queue is held, until `voiceflow resume`. Refused while a process uses the store. The old file is
    moved aside. So that no call is made twice and none is lost, the calls of the old file are taken over.

    Examples:
        voiceflow restore calls-monday.db
        voiceflow restore /backups/calls.db --store sqlite:////var/lib/voiceflow/calls.db && voiceflow status
    """
    settings = common.settings()
    path = path_of_store(settings, to="restore")
    try:
        done = _restored(path, file.absolute(), settings)
    except OSError as error:
        raise StoreReadOnlyError(
            f"the backup cannot replace {path}: {error.strerror or error}; either the store "
            "is unchanged, or its files were moved aside: look for names that contain `before-restore`"
        ) from error
    common.output().result(_as_json(done, file.absolute()), *_lines(done))


def _restored(path: Path, file: Path, settings: Settings) -> Restored:
    from voiceflow_worker.backends.sqlite.backups import restore

    with meter("restoring") as shown:
        return restore(
            path,
            file,
            clock=lambda: datetime.now(UTC),
            policy=settings.policy(),
            progress=lambda done, total: shown(done, total, f"{done} of {total}"),
            reason=_reason,
        )


def _reason(made_at: datetime | None, taken: TakenOver | None) -> str:
    """The reason of the holds: what a person must look at, and type."""
    made = f"restored from a backup of {in_words(made_at)}" if made_at else "restored from a backup"
    if taken is not None and taken.was_read:
        doubts = (
            f"; {count_of(taken.in_doubt, 'call')} in doubt, because the two copies have different histories: look for "
            "them in the log of 8x8 (`voiceflow calls list --state in_doubt`), and resolve them (`voiceflow calls "
            "resolve ID`)"
        )
        return (
            f"{made}; the calls of the replaced file were taken over{doubts if taken.in_doubt else ''}. Check the "
            "calls that wait (`voiceflow calls list --state queued`), then run `voiceflow resume`"
        )
    why = "there was no store to compare it with" if taken is None else "the replaced file could not be read"
    return (
        f"{made}; {why}, so some queued calls may have been made already, and later opt-outs are not known. Compare "
        "the queued calls (`voiceflow calls list --state queued`) with the logs of 8x8, cancel those that were made "
        "(`voiceflow calls cancel ID`), add the opt-outs (`voiceflow suppress add`), then run `voiceflow resume`"
    )


def _as_json(done: Restored, file: Path) -> dict[str, object]:
    return {
        "store": str(done.path),
        "backup": str(file),
        "made_at": rfc3339(done.made_at),
        "calls": done.calls,
        "waiting": done.waiting,
        "taken_over": asdict(done.taken),
        "replaced": done.replaced,
        "held": list(done.held),
        "moved": [str(each) for each in done.moved],
    }


def _lines(done: Restored) -> Iterator[str]:
    made = "" if done.made_at is None else f", made at {in_words(done.made_at)}"
    yield f"{done.path} now holds the backup{made}: {count_of(done.calls, 'call')}"
    if done.moved:
        yield f"the old files are kept as: {', '.join(map(str, done.moved))}"
    taken = done.taken
    if sent := taken.advanced + taken.added:
        yield f"taken over from the old file: {count_of(sent, 'call')} enqueued, sent or ended after the backup"
    if taken.cancelled:
        yield (
            f"cancelled: {count_of(taken.cancelled, 'waiting call')} that the other file had deleted after their end, "
            "or has under another id"
        )
    if not done.replaced:
        yield (
            f"there was no store {done.path} before: if it has another path, remove {done.path} and restore to that "
            "path with --store"
        )
    if done.held:
        yield f"queues held until `voiceflow resume --queue NAME`: {', '.join(done.held)}"
        yield _reason(done.made_at, taken if done.replaced else None)
