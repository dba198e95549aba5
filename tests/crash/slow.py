"""Slow commits: for moments the store takes writes from nobody else, as a busy disk or a long transaction does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import apsw
import psycopg

from tests.support.postgres import connected
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
    if store.startswith("postgres"):
        return lambda seconds: _lock_the_jobs(store, seconds)
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


def _lock_the_jobs(store: str, seconds: float) -> bool:
    """Hold a lock that lets nobody write jobs, as a person's ALTER TABLE would."""
    schema = parse_qs(urlsplit(store).query).get("schema", ["voiceflow"])[0]
    try:
        with connected(store) as holder, holder.transaction():
            holder.execute(f"LOCK TABLE {schema}.jobs IN SHARE MODE".encode())
            time.sleep(seconds)  # the lock is held for so long: time is what is tested
    except psycopg.OperationalError:
        return False
    return True
