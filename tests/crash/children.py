"""Processes from the zygote, as their parent sees them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from signal import Signals
from typing import Any

from tests.crash.orders import Order
from tests.crash.zygote import Signal, Spawn, Told
from tests.support.processes import ROOT

WITHIN = 60.0
"""Seconds that anything may take that takes milliseconds on a machine that is not busy."""


class Child:
    """One forked process."""

    def __init__(self, number: int, order: Order, log: Path, children: Children) -> None:
        self.number = number
        self.order = order
        self._log = log
        self._children = children
        self._words: dict[str, dict[str, Any]] = {}
        self._changed = threading.Condition()

    def wait_for(self, word: str, *, seconds: float = WITHIN) -> dict[str, Any]:
        """Wait until the child tells this, and give what it tells with it."""
        with self._changed:
            heard = self._changed.wait_for(lambda: word in self._words or "ended" in self._words, seconds)
            if word not in self._words:
                how = f"ended with {self._words['ended']['code']}" if heard else f"said nothing in {seconds:.0f} s"
                raise AssertionError(f"waited for {word!r}, but {self.order} {how}:\n{self.log}")
            return self._words[word]

    def forget(self, word: str) -> None:
        """Have `wait_for` wait for the next time."""
        with self._changed:
            self._words.pop(word, None)

    def wait(self, *, seconds: float = WITHIN) -> int:
        """Wait until it has ended; gives its exit code, which is the negative number of the signal that killed it."""
        code: int = self.wait_for("ended", seconds=seconds)["code"]
        return code

    def word(self, word: str) -> dict[str, Any] | None:
        """What the child has told with this word; None if it has not."""
        return self._words.get(word)

    @property
    def pid(self) -> int:
        """Its process id; it may be another's once it has ended."""
        pid: int = self.wait_for("born")["pid"]
        return pid

    @property
    def has_ended(self) -> bool:
        return "ended" in self._words

    def signal(self, number: Signals) -> None:
        """Send a signal; nothing if it has ended."""
        self._children.send(Signal(self.number, number))

    def end(self, number: Signals = Signals.SIGTERM, *, seconds: float = WITHIN) -> int:
        """Send a signal and wait for the end."""
        self.signal(number)
        return self.wait(seconds=seconds)

    @property
    def log(self) -> str:
        """What it, and others with the same log, wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def hear(self, told: Told) -> None:
        with self._changed:
            self._words[told.word] = told.facts
            self._changed.notify_all()


class Children:
    """The zygote's parent."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._children: dict[int, Child] = {}
        self._numbers = iter(range(1, sys.maxsize))
        threading.Thread(target=self._listen, daemon=True).start()

    def spawn(self, order: Order, *, log: Path) -> Child:
        """Fork a process; it may not have begun yet when this returns."""
        with self._sending:
            child = Child(next(self._numbers), order, log, self)
            self._children[child.number] = child
            self._connection.send(Spawn(child.number, order, log))
        return child

    def send(self, order: Signal) -> None:
        with self._sending:
            self._connection.send(order)

    def _listen(self) -> None:
        try:
            while True:
                told: Told = self._connection.recv()
                child = self._children.get(told.child)
                if child is not None:
                    child.hear(told)
                if told.word == "ended":
                    self._children.pop(told.child, None)
        except (EOFError, OSError):
            for child in list(self._children.values()):
                child.hear(Told(child.number, "ended", {"code": "lost with the zygote"}))


@contextmanager
def zygote() -> Iterator[Children]:
    """A zygote, which is ended with the block, and all its children with it."""
    here, there = socket.socketpair()
    with there:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote", str(there.fileno())],
            cwd=ROOT,
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.startswith("VOICEFLOW_")},
            start_new_session=True,
        )
    connection = Connection(os.dup(here.fileno()))
    try:
        first: Told = connection.recv()
        assert first.word == "ready", first
        yield Children(connection)
    finally:
        here.shutdown(socket.SHUT_RDWR)  # both ends read the end: ours stops listening, the zygote ends
        here.close()
        try:
            process.wait(WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
