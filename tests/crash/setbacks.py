"""Set-backs: under running workers, or while all is stopped, an older copy of the store takes its place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from tests.backends.redis.test_rollback import back_up, restore
from tests.support.redis_server import RedisServer


class Setback(Protocol):
    """One way to set a store back."""

    name: str
    needs_stop: bool
    """Whether everything must have ended before it is carried out."""

    def copy(self) -> None:
        """Take the copy; everything may be running."""
        ...

    def strike(self) -> None:
        """Put the copy in the place of the store."""
        ...


class OlderAof:
    """A Redis is killed, and comes back with an older AOF."""

    name = "older AOF"
    needs_stop = False

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self._server = server
        self._copy = folder / "older-aof"

    def copy(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir(parents=True)
        back_up(self._server, self._copy)

    def strike(self) -> None:
        restore(self._server, self._copy)
