"""What is mounted where on this machine, as Linux says it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

FILE = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")
"""How blanks and such are written (proc(5))."""


class Mount(NamedTuple):
    """A mounted file system: the numbers of its device, such as 98:0, its mount point, and its kind, such as ext4."""

    device: str
    point: Path
    kind: str


def mounts() -> list[Mount]:
    """All that is mounted; of two at one point, the later one hides the other. Raises OSError if this is not Linux."""
    found = list[Mount]()
    for line in FILE.read_bytes().splitlines():
        where, _, what = line.partition(b" - ")
        device, _, point = where.split(b" ")[2:5]
        path = _OCTAL.sub(lambda code: bytes([int(code[1], 8)]), point)
        found.append(Mount(device.decode(), Path(os.fsdecode(path)), what.split(b" ")[0].decode()))
    return found
