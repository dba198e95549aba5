"""The health of a store in a file: its permissions, and its disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from anyio import to_thread

from voiceflow_worker.backends.health import Health, HealthCheck
from voiceflow_worker.backends.store_url import path_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.finding import Diagnosis, failure, ok, warning

if TYPE_CHECKING:
    from voiceflow_worker.backends.sqlite.store import SqliteStore

MEGABYTE = 1024 * 1024
TOO_LITTLE = 100 * MEGABYTE
LITTLE = 1024 * MEGABYTE
"""Free bytes below which the doctor warns: room for about 500,000 calls of 2 KB. The write-ahead log may take 64 MB."""

_DURABLE = ok("write-ahead log, synchronous=FULL: each commit is on the disk before it returns")
"""A file that cannot have both is not opened."""


class SqliteHealth(Health):
    """The checks of a file. Raises SettingsError for a URL without a file."""

    def __init__(self, url: str, store: Store | None) -> None:
        self._path = path_of(url)
        self._store = cast("SqliteStore | None", store)

    def checks(self) -> Mapping[str, HealthCheck]:
        checks: dict[str, Callable[[Path], Diagnosis | None]] = {
            "permissions": permissions, "disk space": disk_space,
        }  # fmt: skip
        if self._store is not None:
            checks["durability"] = lambda _: _DURABLE
        return {name: self._of_file(check) for name, check in checks.items()}

    def _of_file(self, check: Callable[[Path], Diagnosis | None]) -> HealthCheck:
        # In a thread that a time limit leaves behind: a network file system that hangs can block even `Path.resolve`.
        return lambda: to_thread.run_sync(check, self._path, abandon_on_cancel=True)


def disk_space(path: Path) -> Diagnosis:
    """Check that the disk of the store has free space."""
    folder = next(each for each in path.parents if each.is_dir())
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    space = f"{free / MEGABYTE:,.0f} MB free under {folder}".replace(",", " ")
    if free < TOO_LITTLE:
        return failure(space, remedy="make room: while the store cannot be written, no calls are sent")
    return warning(space, remedy="make room soon") if free < LITTLE else ok(space)


def permissions(path: Path) -> Diagnosis | None:
    """Check that no others may read the store; one that this user may not write is not opened."""
    if not path.exists():
        return None
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return warning(
            f"everybody on this machine is allowed to {'write' if mode & stat.S_IWOTH else 'read'} the store (mode "
            f"{mode:04o}), which holds telephone numbers and call texts",
            remedy=f"chmod o-rw {path}*",
        )
    return ok(f"mode {mode:04o}")
