"""Checks of the store and of its queue: file, durability, journal files, workers, limits, holds, doubts, menus."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from voiceflow_worker.backends.store_url import file_of
from voiceflow_worker.backends.witness import journal_files
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.overview.status import read_status
from voiceflow_worker.core.overview.story import closed_in_words, resume_of
from voiceflow_worker.core.ports import Limits, Store
from voiceflow_worker.core.ports.reading import count_states, find_jobs, gates_of, limits_of
from voiceflow_worker.core.ports.reads import Due
from voiceflow_worker.core.rollback import SET_BACK, JournalCheck, check_journals
from voiceflow_worker.core.sending.departures import SetRate
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import count_of, duration_in_words, rate_in_words
from voiceflow_worker.service.doctor.context import Check, CheckContext, Diagnosis, failure, in_thread, ok, warning

MEGABYTE = 1024 * 1024
TOO_LITTLE = 100 * MEGABYTE
LITTLE = 1024 * MEGABYTE
"""Free bytes below which the doctor warns: room for about 500,000 calls of 2 KB. The write-ahead log may take 64 MB."""
FULL = 2
"""The value of PRAGMA synchronous that guarantees that a commit is on the disk when it returns."""
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
    from voiceflow_worker.backends.sqlite.opening import open_file

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


MOST_DOUBTS = 1000


async def workers(context: CheckContext) -> Diagnosis:
    """Check that a worker runs if calls are due."""
    found = await read_status(context.store, context.settings.queue, clock_skew=context.settings.clock_skew)
    if found.workers:
        return ok(f"{count_of(found.workers, 'worker')} of queue {found.queue}, {found.rate_now:g} calls/s now")
    if not found.due:
        return ok(f"no worker runs for queue {found.queue}, and nothing is due")
    waited = duration_in_words(timedelta(seconds=found.oldest_due_seconds or 0))
    are = "is due," if found.due == 1 else "are due, the oldest"
    return warning(
        f"no worker runs for queue {found.queue}, but {count_of(found.due, 'call')} {are} for {waited}",
        remedy="run `voiceflow worker`",
    )


async def holds(context: CheckContext) -> Diagnosis:
    """Check that neither the queue nor one of its batches is held."""
    store, queue = context.store, context.settings.queue
    now = store.clock.now()
    closed = [gate for gate in await gates_of(store, queue) if gate.is_closed(at=now)]
    held = [gate for gate in closed if gate.state is GateState.HELD]
    if not held:
        cancelled = ", ".join(gate.name for gate in closed)
        return ok(f"none; batches cancelled for good: {cancelled}" if closed else "none")
    closed_gates = "; ".join(map(closed_in_words, held))
    if any(SET_BACK in gate.reason for gate in held):
        return failure(
            closed_gates,
            remedy="do not resume yet: run `voiceflow reconcile`, resolve the calls that stay in doubt (`voiceflow "
            f"calls resolve`), then {' and '.join(map(resume_of, held))}",
        )
    return warning(closed_gates, remedy=f"correct the cause, then {' and '.join(map(resume_of, held))}")


async def doubts(context: CheckContext) -> Diagnosis:
    """Check that no call is in doubt."""
    store, queue = context.store, context.settings.queue
    count = (await count_states(store, queue))[JobState.IN_DOUBT]
    if not count:
        return ok("none")
    found = await find_jobs(store, Due(queue=queue, state=JobState.IN_DOUBT, limit=MOST_DOUBTS))
    began = min((post.began_at for job in found if (post := job.open_post) is not None), default=None)
    age = f"; the oldest POST began {duration_in_words(store.clock.now() - began)} ago" if began is not None else ""
    return warning(
        f"{count_of(count, 'call')} may have been placed and will not be sent again without evidence{age}",
        remedy="look for them in the log of 8x8 with `voiceflow reconcile`; resolve the rest (`voiceflow calls list "
        "--state in_doubt`) by hand with `voiceflow calls resolve`",
    )


async def limits(context: CheckContext) -> Diagnosis:
    """Check that the limits in the store are those of the settings."""
    chosen = context.settings
    wanted = Limits(rate=chosen.rate, burst=chosen.burst, max_active=chosen.max_active, reserve=chosen.reserve)
    stored = await limits_of(context.store, chosen.queue)
    if stored is None:
        return ok(f"{in_words(wanted)} once a worker starts")
    if stored == wanted:
        return ok(in_words(stored))
    held = await SetRate(context.store, chosen.queue).over(wanted)
    remedies: list[str] = []
    if held.rate != wanted.rate:
        remedies.append(
            "the rate was set by `voiceflow rate`: to use the rate of the settings, run `voiceflow rate --reset` and "
            "start the workers again"
        )
    if held != stored:
        remedies.append(
            "the limits of the worker that started last apply: set the same VOICEFLOW_RATE, VOICEFLOW_BURST, "
            "VOICEFLOW_MAX_ACTIVE and VOICEFLOW_RESERVE for all workers and here"
        )
    return warning(
        f"the queue has {in_words(stored)}, but the settings here say {in_words(wanted)}", remedy="; ".join(remedies)
    )


def in_words(limits: Limits) -> str:
    """The limits in words, such as `rate 10 calls/s, burst 1, max active unlimited`."""
    active = "unlimited" if limits.max_active is None else limits.max_active
    reserve = f", {limits.reserve} of them for urgent calls" if limits.reserve else ""
    return f"rate {rate_in_words(limits.rate)}, burst {limits.burst}, max active {active}{reserve}"


MOST_CALLS = 500
"""The largest number of waiting calls whose menus are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingMenus:
    """The menus with which the next calls of a queue begin. `unserved` are those that no running receiver serves."""

    named: tuple[str, ...]
    unserved: tuple[str, ...]

    @property
    def trouble(self) -> str | None:
        """What happens in calls whose menus are not served; None if all are served."""
        if not self.unserved:
            return None
        return (
            f"waiting calls begin with menus, but no running receiver serves {', '.join(self.unserved)}: each person "
            "hears the question, no key is answered, and the call ends"
        )


async def menus_waiting(store: Store, queue: str) -> tuple[str, ...]:
    """The names of the menus of the next waiting calls, in alphabetical order. At most `MOST_CALLS` calls are read."""
    # By due time: in a queue of 100,000 calls this takes 7 ms, because no other calls are read. By id it takes 30 ms.
    first = await find_jobs(store, Due(queue=queue, state=JobState.QUEUED, limit=MOST_CALLS))
    return tuple(sorted({job.menu for job in first if job.menu is not None}))


async def waiting_menus(store: Store, queue: str) -> WaitingMenus:
    """The menus of the next waiting calls, compared with the heartbeats of receivers."""
    named = await menus_waiting(store, queue)
    if not named:
        return WaitingMenus(named=(), unserved=())
    # Imported here, because most workers send calls without menus.
    from voiceflow_worker.ivr.approval import approval

    heartbeats = Heartbeats(store)
    served = set(await heartbeats.menus())
    if await heartbeats.has_receiver():
        served.add(approval.name)
    return WaitingMenus(named=named, unserved=tuple(name for name in named if name not in served))
