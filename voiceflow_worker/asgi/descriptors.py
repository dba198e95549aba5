"""File descriptors: the limit of this process, and the share that connections may use."""

from __future__ import annotations

import os
import resource
from pathlib import Path

MOST_RAISED = 65_536
"""The limit is raised no further: some systems allow a thousand million, and tables of that size."""
MOST = 4096
"""Connections that a server has open at once, however many descriptors there are: each takes some 30 KB."""
LEAST = 16
_KEPT_LEAST, _KEPT_MOST = 40, 128
"""Descriptors kept free for the store, its journals, notifications, and files: an eighth of the limit, within these."""
_OPEN = (Path("/proc/self/fd"), Path("/dev/fd"))
_GUESSED = 32


def raise_limit() -> int:
    """Raise the limit of this process as far as is allowed (`ulimit -Hn`); returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_RAISED if hard == resource.RLIM_INFINITY else min(hard, MOST_RAISED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS refuses more than its own OPEN_MAX
            return soft
        return wanted
    return soft


def connections_that_fit() -> int:
    """The number of connections that may be opened now, with descriptors left for everything else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST
    kept = max(_KEPT_LEAST, min(_KEPT_MOST, limit // 8))
    return max(LEAST, min(MOST, limit - _open_now() - kept))


def _open_now() -> int:
    for folder in _OPEN:
        try:
            return len(os.listdir(folder))  # noqa: PTH208 (one call, no objects: it is counted only)
        except OSError:
            continue
    return _GUESSED
