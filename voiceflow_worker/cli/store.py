"""Whole stores: `voiceflow backup` and `restore` of a SQLite store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.backends.registry import PAUSE, StoreWait
from voiceflow_worker.backends.store_url import file_of
from voiceflow_worker.cli.opening import require_store, store_wait
from voiceflow_worker.cli.options import Flag, WholeStoreOptions
from voiceflow_worker.cli.output import meter
from voiceflow_worker.errors import (
    InvalidInputError,
    SettingsError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from voiceflow_worker.model.text.wording import count_of, in_words, rfc3339

if TYPE_CHECKING:
    from voiceflow_worker.backends.sqlite.backups import BackedUp, Restored
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
    settings = common.settings(store_alone=True)
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
        "read docs/runbooks.md (A restore)"
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
    moved aside. The next worker puts in doubt what was sent after the backup, as its journal files show.

    Examples:
        voiceflow restore calls-monday.db
        voiceflow restore /backups/calls.db --store sqlite:////var/lib/voiceflow/calls.db && voiceflow status
    """
    settings = common.settings(store_alone=True)
    path = path_of_store(settings, to="restore")
    try:
        done = _restored(path, file.absolute())
    except OSError as error:
        raise StoreReadOnlyError(
            f"the backup cannot replace {path}: {error.strerror or error}; either the store "
            "is unchanged, or its files were moved aside: look for names that contain `before-restore`"
        ) from error
    common.output().result(_as_json(done, file.absolute()), *_lines(done))


def _restored(path: Path, file: Path) -> Restored:
    from voiceflow_worker.backends.sqlite.backups import restore

    with meter("restoring") as shown:
        return restore(
            path,
            file,
            now=datetime.now(UTC),
            progress=lambda done, total: shown(done, total, f"{done} of {total}"),
        )


def _as_json(done: Restored, file: Path) -> dict[str, object]:
    return {
        "store": str(done.path),
        "backup": str(file),
        "made_at": rfc3339(done.made_at),
        "calls": done.calls,
        "replaced": done.replaced,
        "held": list(done.held),
        "moved": [str(each) for each in done.moved],
    }


def _lines(done: Restored) -> Iterator[str]:
    made = "" if done.made_at is None else f", made at {in_words(done.made_at)}"
    yield f"{done.path} now holds the backup{made}: {count_of(done.calls, 'call')}"
    if done.moved:
        yield f"the old files are kept as: {', '.join(map(str, done.moved))}"
    if not done.replaced:
        yield (
            f"there was no store {done.path} before: if it has another path, remove {done.path} and restore to that "
            "path with --store"
        )
    if done.held:
        yield f"queues held until `voiceflow resume --queue NAME`: {', '.join(done.held)}. `voiceflow status` says why"
