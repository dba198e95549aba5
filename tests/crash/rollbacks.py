"""The stores of the laboratory, and their rollbacks: under running workers, or while all is stopped, an older copy of
the store takes its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.crash.lights import Light
from tests.support.postgres import PostgresServer
from tests.support.processes import Process
from tests.support.redis_server import RedisServer, back_up, free_port, restore, standalone

Does = Callable[..., Process]
"""Runs a command of voiceflow, as a person would."""


class Rollback(ABC):
    """One way to set a store back; `does` is a person's terminal."""

    name: str
    light = Light.GO
    """What is allowed while it is carried out."""
    must_end = False
    """Whether the workers must end by themselves when it has struck; then `undo` puts things right."""

    @abstractmethod
    def copy(self, does: Does, /) -> None:
        """Take the copy; everything may be running."""

    @abstractmethod
    def strike(self, does: Does, /) -> None:
        """Put the copy in the place of the store."""

    def undo(self) -> None:
        """Put the store itself back, where it was kept; nothing uses either."""
        raise AssertionError(f"nobody goes back after this: {self.name}")


class OlderAof(Rollback):
    """A Redis is killed, and comes back with an older AOF, under running workers."""

    name = "older AOF"

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self._server = server
        self._copy = folder / "older-aof"

    def copy(self, _does: Does, /) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir(parents=True)
        back_up(self._server, self._copy)

    def strike(self, _does: Does, /) -> None:
        restore(self._server, self._copy)


class OlderCluster(Rollback):
    """A PostgreSQL is stopped, and comes back with an older copy of its files, under running workers."""

    name = "older cluster"

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self._server = server
        self._copy = folder / "older-cluster"

    def copy(self, _does: Does, /) -> None:
        self._server.stop()
        _copied(self._server.data, self._copy)
        self._server.start()

    def strike(self, _does: Does, /) -> None:
        self._server.stop()
        shutil.rmtree(self._server.data)
        _copied(self._copy, self._server.data)
        self._server.start()


class FailedOver(Rollback):
    """A primary is killed, and an asynchronous standby that lags takes its place, under running workers."""

    name = "failover with lag"

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        self._standby: PostgresServer | None = None
        self._free_port = free_port()
        self._changing = threading.Lock()
        self.url = primary.url(self._free_port)

    def copy(self, _does: Does, /) -> None:
        with self._changing:
            self._standby = self._primary.standby(port=self._free_port)
            self._standby.lag()

    def strike(self, _does: Does, /) -> None:
        assert self._standby is not None
        with self._changing:
            self._free_port = self._primary.port
            self._primary.kill()
            self._standby.promote()
            self._primary.close()
            self._primary, self._standby = self._standby, None

    def crash(self) -> None:
        """The primary is killed, and recovers: it has all that it ever confirmed."""
        with self._changing:
            self._primary.kill()
            self._primary.start()

    def close(self) -> None:
        """End what runs."""
        for server in (self._primary, self._standby):
            if server is not None:
                server.close()


class Restored(Rollback):
    """`voiceflow backup` while everything runs, and later `voiceflow restore` while nothing does."""

    name = "backup restored"
    light = Light.STOP

    def __init__(self, path: Path) -> None:
        self._copy = path.with_name("backup.db")

    def copy(self, does: Does, /) -> None:
        _done(does("backup", str(self._copy), "--force"))

    def strike(self, does: Does, /) -> None:
        _done(does("restore", str(self._copy)))


class Replaced(Rollback):
    """An older copy is moved over the file of the store under running workers, as no manual says."""

    name = "file replaced"
    light = Light.CLOSED
    must_end = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy = path.with_name("older.db")
        self._kept = path.with_name("kept.db")

    def copy(self, does: Does, /) -> None:
        _done(does("backup", str(self._copy), "--force"))

    def strike(self, _does: Does, /) -> None:
        os.link(self._path, self._kept)
        self._copy.rename(self._path)

    def undo(self) -> None:
        self._kept.rename(self._path)


@dataclass(frozen=True, slots=True)
class Opened:
    """A store to soak, how it can be rolled back, and how its server crashes and recovers."""

    url: str
    rollbacks: Sequence[Rollback] = ()
    crash: Callable[[], None] | None = None


@contextmanager
def opened(store: str | None, folder: Path) -> Iterator[Opened]:
    """The store to soak: a new file, a server of our own for `redis` or `postgres`, or what the URL names."""
    match store:
        case None | "sqlite":
            path = folder / "calls.db"
            yield Opened(
                f"sqlite:///{path}",
                [Restored(path), Replaced(path)],
            )
        case "redis":
            server = standalone(folder / "redis").start()
            try:
                yield Opened(server.url, [OlderAof(server, folder)])
            finally:
                server.kill()
        case "postgres":
            pair = FailedOver(PostgresServer().start())
            try:
                yield Opened(pair.url, [pair], pair.crash)
            finally:
                pair.close()
        case url:
            yield Opened(url)


def _copied(folder: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", str(folder), str(to)], check=True)


def _done(process: Process) -> None:
    if process.wait() != 0:
        raise AssertionError(f"a command failed:\n{process.printed}")
