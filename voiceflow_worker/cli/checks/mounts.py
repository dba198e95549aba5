"""The file system that a path is on, read from /proc/mounts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

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
    """The mount that `path`, absolute and resolved, lies on; None if it is not in these lines."""
    found: Mount | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[1]))
        # The longest one has it; of two at one place the later one lies on top.
        if path.is_relative_to(point) and (found is None or len(point.parts) >= len(found.point.parts)):
            found = Mount(point, fields[2])
    return found


def read_mounts() -> str | None:
    """The contents of /proc/mounts; None on systems without it."""
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
