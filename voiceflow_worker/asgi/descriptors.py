"""File descriptors: the limit of this process, and the share that connections may use."""

from __future__ import annotations

import os
import resource
from pathlib import Path

MOST_RAISED = 65_536
"""The highest limit that `raise_limit` sets. Some systems allow 10^9, and allocate tables of that size."""
MOST = 4096
"""The most connections that a server may have open, even if there are more descriptors. Each takes about 30 KB, so all
take 120 MB."""
LEAST = 16
_KEPT_LEAST, _KEPT_MOST = 40, 128
"""The least and the most descriptors that are kept free for the store, journal files and notifications. Between these
bounds, an eighth of the process's limit is kept free."""
_OPEN = (Path("/proc/self/fd"), Path("/dev/fd"))
_GUESSED = 32


def raise_limit() -> int:
    """Raise this process's limit on open files towards the hard limit (`ulimit -Hn`), and return the new limit."""
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
    """The number of connections that may be opened now, with enough descriptors left for everything else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST
    kept = max(_KEPT_LEAST, min(_KEPT_MOST, limit // 8))
    return max(LEAST, min(MOST, limit - _open_now() - kept))


def _open_now() -> int:
    for folder in _OPEN:
        try:
            return len(os.listdir(folder))  # noqa: PTH208 (only the number is needed, not the paths)
        except OSError:
            continue
    return _GUESSED
