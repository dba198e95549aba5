"""Slow commits: for moments the store takes writes from nobody else, as a busy disk or a long transaction does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import apsw

from tests.support.redis_server import ask
from voiceflow_worker.backends.store_url import path_of

SECONDS = (0.1, 0.5)
"""How long one lasts."""
EVERY = (1.0, 4.0)

Stall = Callable[[float], bool]
"""Have the store take no writes for so many seconds; returns when it is over, with whether it could be done."""


def stall_of(store: str) -> Stall:
    """How this kind of store is made slow."""
    if store.startswith("redis"):
        parts = urlsplit(store)
        port = parts.port or 6379
        return lambda seconds: _pause_writes(port, seconds)
    path = path_of(store)
    return lambda seconds: _hold_the_lock(path, seconds)


def _hold_the_lock(path: Path, seconds: float) -> bool:
    """Hold SQLite's write lock, as another process in a long transaction would."""
    with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as holder:
        holder.setbusytimeout(2000)
        try:
            holder.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            return False
        time.sleep(seconds)  # the lock is held for so long: time is what is tested
        holder.execute("ROLLBACK")
    return True


def _pause_writes(port: int, seconds: float) -> bool:
    try:
        ask(port, "CLIENT", "PAUSE", round(seconds * 1000), "WRITE")
    except (OSError, RuntimeError):
        return False
    time.sleep(seconds)  # the writes are paused for so long: time is what is tested
    return True
