"""Checks of a store for `voiceflow doctor`: the durability of its server, or the free space on its disk."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from anyio import to_thread

from voiceflow_worker.backends.store_url import file_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.finding import Diagnosis, failure, ok, warning

HealthCheck = Callable[[], Awaitable[Diagnosis | None]]
"""A check. It returns its diagnosis, or None if it does not apply. It may raise VoiceflowError."""

MEGABYTE = 1024 * 1024
TOO_LITTLE = 100 * MEGABYTE
LITTLE = 1024 * MEGABYTE
"""Free bytes below which the doctor warns: room for about 500,000 calls of 2 KB. The write-ahead log may take 64 MB."""


class Guarantee(StrEnum):
    """The durability of a commit that has returned, on a server. The best is listed first."""

    DISK = "disk"
    """It is on the server's disk: of a Redis by `appendfsync always`."""
    WAITED = "waited"
    """It is on the disk of a Redis, by `WAITAOF` after each commit."""
    SECOND = "second"
    """A crash of the machine of a Redis can lose the last two seconds (`appendfsync everysec`)."""
    SYSTEM = "system"
    """A crash of the server's machine may lose it, or damage a database: the operating system decides."""
    NONE = "none"
    """The user accepts that the server may lose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """The guarantee of a server. `promise` describes it in words; `warning` is about the server's configuration."""

    guarantee: Guarantee
    promise: str
    warning: str | None = None

    async def diagnosis(self) -> Diagnosis:
        """Return the diagnosis of what the server promises of commits."""
        if self.warning is not None:
            # Some warnings begin with the promise.
            remedy = self.warning.removeprefix(self.promise).lstrip("; ") or self.warning
            return warning(self.promise, remedy=remedy)
        if self.guarantee is Guarantee.NONE:
            return warning(
                self.promise,
                remedy="correct the settings of the server, and remove durability=best-effort from the store URL",
            )
        return ok(self.promise)


def durability_of(store: Store | None) -> Durability | None:
    """Return what the server of an open store promises: its attribute `durability`. None without a server."""
    return getattr(store, "durability", None)


def checks_of(url: str, store: Store | None) -> Mapping[str, HealthCheck]:
    """Return the checks of the store at a URL, by name. `store` is None if it is not open. Raises SettingsError."""
    if (path := file_of(url)) is not None:
        # In a thread that a time limit leaves behind: a network file system that hangs blocks its callers.
        return {"disk space": lambda: to_thread.run_sync(disk_space, path, abandon_on_cancel=True)}
    durability = durability_of(store)
    return {} if durability is None else {"durability": durability.diagnosis}


def disk_space(path: Path) -> Diagnosis:
    """Check that the disk of a file has free space."""
    folder = next(each for each in path.parents if each.is_dir())
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    space = f"{free / MEGABYTE:,.0f} MB free under {folder}".replace(",", " ")
    if free < TOO_LITTLE:
        return failure(space, remedy="make room: while the store cannot be written, no calls are sent")
    return warning(space, remedy="make room soon") if free < LITTLE else ok(space)
