"""Checks of the store and of its journal files: opening, durability, memory, file system, disk and permissions."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from voiceflow_worker.backends.registry import file_of, journal_files
from voiceflow_worker.cli.checks.context import Check, CheckContext, Diagnosis, failure, in_thread, ok, warning
from voiceflow_worker.core.guard.rollback import JournalCheck, check_journals
from voiceflow_worker.model.text.wording import count_of

MEGABYTE = 1024 * 1024
TOO_LITTLE = 100 * MEGABYTE
LITTLE = 1024 * MEGABYTE
"""Free bytes below which the doctor warns: room for about 500,000 calls of 2 KB. The write-ahead log may take 64 MB."""
FULL = 2
"""The value of PRAGMA synchronous that guarantees that a commit is on the disk when it returns."""
SOUND_SQLITE = (3, 51, 3)
_PATIENCE = timedelta(seconds=3)


async def opens(context: CheckContext) -> Diagnosis:
    """Check that the store can be opened."""
    return context.opening


async def durability(context: CheckContext) -> Diagnosis | None:
    """Check that the store cannot lose a commit that it has confirmed."""
    store = context.store
    path = file_of(context.settings.store)
    if path is not None:
        return await in_thread(partial(_durability_of_file, path))
    stated = getattr(store, "durability", None)
    promise = getattr(stated, "promise", None)
    if promise is None:
        return None
    concern = getattr(stated, "warning", None)
    if concern is not None:
        # Some warnings begin with the promise.
        return warning(f"{promise}", remedy=f"{concern}".removeprefix(f"{promise}").lstrip("; ") or f"{concern}")
    if str(getattr(stated, "guarantee", "")) == "none":
        return warning(f"{promise}", remedy="turn appendonly on, and remove durability=best-effort from the store URL")
    return ok(f"{promise}")


async def memory(context: CheckContext) -> Diagnosis | None:
    """Check that Redis stores calls in its compact form, which takes less memory."""
    look = None if file_of(context.settings.store) else getattr(context.store, "packing", None)
    if look is None:
        return None
    found = await look()
    if found is None:
        return ok("not checked, because this Redis does not allow CONFIG GET")
    stands = f"{found.setting} is {found.up_to}"
    if found.up_to >= found.enough:
        return ok(f"{stands}: calls are stored in the compact form")
    return warning(
        f"{stands}: a call takes about 0.6 KB more memory than it needs",
        remedy=f"CONFIG SET {found.setting} {found.enough}, then CONFIG REWRITE; calls that are already stored take "
        "less memory after Redis has restarted",
    )


def sqlite(_file: Path) -> Diagnosis:
    """Check that this SQLite does not have the WAL-reset bug, which can damage a store (sqlite.org/wal.html)."""
    import apsw

    return judged_sqlite(apsw.sqlite_lib_version())


def judged_sqlite(version: str) -> Diagnosis:
    """The diagnosis for a version of SQLite."""
    if tuple(int(part) for part in version.split(".") if part.isdecimal()) >= SOUND_SQLITE:
        return ok(f"SQLite {version}: it has no known error that damages a store")
    return failure(
        f"SQLite {version} may damage a store when two connections write to it; version 3.51.3 corrects this",
        remedy="pip install -U apsw",
    )


def file_system(path: Path) -> Diagnosis:
    """Check that the store's file is on a disk of this machine."""
    return judged_mount(path.resolve(), read_mounts())


def judged_mount(path: Path, mounts: str | None) -> Diagnosis:
    """The diagnosis for the file system of a resolved path. `mounts` is the text of /proc/mounts, if there is one."""
    mount = None if mounts is None else mount_of(path, mounts)
    if mount is None:
        return ok("not checked, because this system has no /proc/mounts; the store must be on a local disk")
    where = f"{mount.kind}, mounted at {mount.point}"
    if mount.kind in NETWORK:
        return failure(
            f"the store is on a network file system ({where}), whose locks are not reliable: the store can be damaged",
            remedy="put the store on a local disk, or use Redis if several machines share it",
        )
    if mount.kind in IN_MEMORY:
        return warning(
            f"the store is in memory ({where}): a restart of this machine loses it", remedy="put the store on a disk"
        )
    if mount.kind in OF_CONTAINERS:
        return warning(
            f"the store is in a container's own layer ({where}): it is deleted with the container",
            remedy="put the store on a volume that outlives the container",
        )
    return ok(where)


def of_file(check: Callable[[Path], Diagnosis | None]) -> Check:
    """Make a check that runs `check` with the store's file. The check does not apply to a store without a file.

    `check` runs in a thread, because a network file system that hangs can block even `Path.resolve`.
    """

    async def look(context: CheckContext) -> Diagnosis | None:
        path = file_of(context.settings.store)
        return None if path is None else await in_thread(partial(check, path))

    return look


def _durability_of_file(path: Path) -> Diagnosis:
    from voiceflow_worker.backends.sqlite.file.opening import open_file

    # Opened as a worker opens it, so that the result holds for workers.
    db = open_file(path, patience=_PATIENCE)[0]
    try:
        mode, synchronous, version = db.pragma("journal_mode"), db.pragma("synchronous"), db.pragma("user_version")
    finally:
        db.close()
    if mode != "wal" or synchronous < FULL:
        return failure(
            f"journal_mode is {mode} and synchronous is {synchronous}: a commit may be lost",
            remedy="put the store on a local disk, where SQLite can share a write-ahead log",
        )
    return ok(f"write-ahead log, synchronous=FULL: each commit is on the disk before it returns (schema {version})")


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
    """Check that this user is allowed to read and write the store, and that other users are not."""
    if not path.parent.is_dir():
        return None
    needed = [each for each in (path.parent, path) if each.exists()]
    locked = [str(each) for each in needed if not os.access(each, os.R_OK | os.W_OK)]
    if locked:
        return failure(
            f"this user is not allowed to both read and write {', '.join(locked)}",
            remedy="allow this user to read and write the file and its folder, because SQLite creates files beside it",
        )
    if not path.exists():
        return ok(f"this user is allowed to write in {path.parent}")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return warning(
            f"everybody on this machine is allowed to {'write' if mode & stat.S_IWOTH else 'read'} the store (mode "
            f"{mode:04o}), which holds telephone numbers and call texts",
            remedy=f"chmod o-rw {path}*",
        )
    return ok(f"mode {mode:04o}, and this user is allowed to write the store")


async def journals(context: CheckContext) -> Diagnosis | None:
    """Check that the store knows every call that the workers of this machine sent."""
    settings = context.settings
    witness = journal_files(settings)
    if witness is None:
        return None
    return judged_journals(
        await check_journals(context.store, witness, queue=settings.queue, policy=settings.policy()),
        queue=settings.queue,
    )


def judged_journals(found: JournalCheck, *, queue: str) -> Diagnosis:
    """The diagnosis for the journal files of this machine."""
    files = f"{count_of(found.files, 'journal file')} of this machine"
    if not found.set_back:
        return ok(
            f"{files}, with {count_of(found.calls, 'call')}: no sign that the store was set back"
            if found.files
            else "there are none"
        )
    forgotten = count_of(len(found.forgotten), "call")
    return failure(
        f"the store was set back to an older state: it has lost {forgotten} recorded in {files}, "
        "and would make them again",
        remedy=f"do not resume queue {queue} yet: first start a worker, which puts these calls in doubt, run "
        "`voiceflow reconcile`, and resolve the rest with `voiceflow calls resolve`; then run `voiceflow resume`",
    )


MOUNTS = Path("/proc/mounts")

NETWORK = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs",
        "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs", "vboxsf",
    }
)  # fmt: skip
"""File systems whose locks and shared memory are not reliable."""
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
OF_CONTAINERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/mounts."""

    point: Path
    kind: str


def mount_of(path: Path, mounts: str) -> Mount | None:
    """The mount that holds `path`, an absolute and resolved path; None if `mounts` (/proc/mounts) has none."""
    found: Mount | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[1]))
        # The longest mount point counts; of two mounts at one point, the later one.
        if path.is_relative_to(point) and (found is None or len(point.parts) >= len(found.point.parts)):
            found = Mount(point, fields[2])
    return found


def read_mounts() -> str | None:
    """The contents of /proc/mounts; None on systems without it."""
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
