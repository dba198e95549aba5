"""`voiceflow backup`: copy a SQLite store that is in use."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.opening import require_store, store_wait
from voiceflow_worker.cli.options import Flag, WholeStoreOptions
from voiceflow_worker.cli.progress import meter
from voiceflow_worker.errors import InvalidInputError, SettingsError, StoreReadOnlyError, StoreUnavailableError
from voiceflow_worker.model.text.counting import count_of

if TYPE_CHECKING:
    from voiceflow_worker.backends.sqlite.backups.backup import BackedUp
    from voiceflow_worker.backends.waiting import StoreWait
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
    """Copy a SQLite store into one file, while it is in use.

    The copy is consistent, checked and durable. `voiceflow restore` replaces the store with the copy.

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
    output = common.output()
    output.document({"store": str(path), "backup": str(made.path), "calls": made.calls, "bytes": made.size})
    output.answer(f"{count_of(made.calls, 'call')} in {made.path} ({made.size / MEGABYTE:.1f} MB), checked")


def _made(path: Path, target: Path, *, wait: StoreWait) -> BackedUp:
    from voiceflow_worker.backends.sqlite.backups.backup import back_up
    from voiceflow_worker.backends.waiting import PAUSE

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
    from voiceflow_worker.backends.file_address import file_of

    path = file_of(settings.store)
    if path is not None:
        return path
    if settings.store.partition(":")[0].lower() == "memory":
        raise SettingsError(f"a store in memory ends with its process: there is nothing to {to}")
    raise SettingsError(
        f"there is no file to {to}: this store is on a server. Copy its AOF or RDB file, as the Redis "
        "manual describes. Before workers start on an older copy, read docs/stores.md (Upgrade, backup, restore)"
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
