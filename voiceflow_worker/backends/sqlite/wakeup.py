"""Wake-ups between the processes that have one file open: SQLite has none, and looking at the file all day costs.

Each process that waits has a FIFO in a folder beside the file (`calls.db-wake`). Who has written puts a byte into the
FIFOs of the others. A FIFO is an inode: it works between users of one file in several containers, needs no port, and
its path may be of any length (that of a socket may have 107 bytes). What is lost of it costs `LOOK_EVERY` at most.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import anyio

LOOK_EVERY = 1.0
"""Seconds between two looks at the file, if nobody wakes this process."""
_SETTLED = 50_000_000
"""Nanoseconds after which the time of a folder shows every change: it is as coarse as a tick of the kernel."""


class Fifos:
    """The FIFO of this process, from its first wait on, and those of the others."""

    def __init__(self, store: Path) -> None:
        self._folder = store.with_name(f"{store.name}-wake")
        self._mine: Path | None = None
        self._reads: int | None = None
        self._asked = False
        self._others: dict[str, int] = {}
        self._listed = 0

    def listen(self) -> None:
        """Make this process's FIFO, once; without one, `sleep` only sleeps."""
        if self._asked:
            return
        self._asked = True
        mine = self._folder / f"{os.getpid()}-{uuid4().hex[:8]}"
        unready = mine.with_suffix(".new")  # nobody opens it before this process does
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            os.mkfifo(unready, 0o600)
            self._reads = os.open(unready, os.O_RDWR | os.O_NONBLOCK)
            self._mine = unready.rename(mine)

    async def sleep(self, seconds: float) -> None:
        """Sleep, until another process has written at most. Several tasks may sleep at once."""
        if self._reads is None:
            await anyio.sleep(seconds)
            return
        own = os.dup(self._reads)  # an event loop watches a descriptor for one task
        try:
            with anyio.move_on_after(seconds):
                await anyio.wait_readable(own)
                with suppress(OSError):
                    os.read(own, 4096)
        finally:
            os.close(own)

    def ring(self) -> None:
        """Wake the processes that wait; called after a commit. It takes microseconds and never waits."""
        with suppress(OSError):
            changed = os.stat(self._folder).st_mtime_ns  # noqa: PTH116 - Path.stat() takes twice as long
            if changed != self._listed:
                self._list(changed)
        for name, fifo in list(self._others.items()):
            try:
                os.write(fifo, b"\0")
            except BlockingIOError:
                pass  # it has not yet read the bytes before
            except OSError:
                self._forget(name)

    def _list(self, changed: int) -> None:
        names = {each.name for each in os.scandir(self._folder) if not each.name.endswith(".new")}
        for gone in self._others.keys() - names:
            self._forget(gone)
        for name in names - self._others.keys() - {self._mine.name if self._mine else ""}:
            path = self._folder / name
            try:
                opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                if stat.S_ISFIFO(os.fstat(opened).st_mode):
                    self._others[name] = opened
                else:
                    os.close(opened)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nobody reads it: its process was killed
                    path.unlink(missing_ok=True)
        self._listed = changed if time.time_ns() - changed > _SETTLED else 0

    def _forget(self, name: str) -> None:
        os.close(self._others.pop(name))
        self._listed = 0

    def close(self) -> None:
        """Remove this process's FIFO, and the folder with the last one."""
        for name in list(self._others):
            self._forget(name)
        if self._reads is not None:
            os.close(self._reads)
            self._reads = None
        if self._mine is not None:
            with suppress(OSError):
                self._mine.unlink()
                self._folder.rmdir()
