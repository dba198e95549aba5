"""`voiceflow backup` and `voiceflow restore`: copies of a SQLite store."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.backends.store_url import file_of
from voiceflow_worker.cli.opening import require_store
from voiceflow_worker.cli.options import Flag, WholeStoreOptions
from voiceflow_worker.errors import InvalidInputError, SettingsError
from voiceflow_worker.model.text.wording import count_of, rfc3339

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings


def backup(
    file: Annotated[Path, Parameter(name="FILE", help="The file of the backup.")],
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
        voiceflow backup /backups/calls.db --force --store sqlite:////var/lib/calls.db
    """
    from voiceflow_worker.backends.sqlite.backups import back_up

    settings = common.settings(store_alone=True)
    path, target = path_of_store(settings), file.absolute()
    require_store(settings)
    if target.exists() and target.samefile(path):
        raise InvalidInputError(f"{target} is the store itself. Name another file")
    if os.path.lexists(target) and not force:
        raise InvalidInputError(f"{target} exists. Name another file, or give --force to replace it")
    made = back_up(path.resolve(), target, now=datetime.now(UTC))
    common.output().result(
        {"store": str(path), "backup": str(made.path), "calls": made.calls, "bytes": made.size},
        f"{count_of(made.calls, 'call')} in {made.path} ({made.size / 1e6:.1f} MB), checked",
    )


def path_of_store(settings: Settings) -> Path:
    """Return the file of the store. Raises SettingsError if there is none."""
    path = file_of(settings.store)
    if path is None:
        raise SettingsError(
            "this store is no file. Back up a server as its manual describes: PostgreSQL with pg_dump or a base "
            "backup, Redis by a copy of its AOF or RDB file. Before workers start on an older copy, read "
            "docs/runbooks.md (A restore)"
        )
    return path


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
        voiceflow restore /backups/calls.db --store sqlite:////var/lib/calls.db
    """
    from voiceflow_worker.backends.sqlite.backups import restore

    path, source = path_of_store(common.settings(store_alone=True)), file.absolute()
    done = restore(path, source, now=datetime.now(UTC))
    moved, held = [str(each) for each in done.moved], list(done.held)
    made_at = rfc3339(done.made_at)
    lines = [f"{path} now holds the backup of {made_at}: {count_of(done.calls, 'call')}"]
    lines += [f"the old files are kept as: {', '.join(moved)}"] if moved else []
    lines += [f"queues held until `voiceflow resume --queue NAME`: {', '.join(held)}"] if held else []
    document = {"store": str(path), "backup": str(source), "made_at": made_at, "calls": done.calls}
    common.output().result({**document, "held": held, "moved": moved}, *lines)
