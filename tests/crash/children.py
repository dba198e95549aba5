"""Processes forked from a server that has imported everything, so that a start takes milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from signal import SIGTERM, Signals, pidfd_send_signal
from typing import Any

from tests.crash.orders import Order
from tests.support.waiting import wait_until

WITHIN = 60.0
"""Seconds that anything may take that takes milliseconds on a machine that is not busy."""
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    [
        "pytest",
        "tests.crash.victim",
        "voiceflow_worker.backends.postgres",
        "voiceflow_worker.backends.redis",
        "voiceflow_worker.backends.sqlite",
        "voiceflow_worker.gateway.connections",
    ]
)
_LOCK = threading.Lock()
"""A start looks at processes that have ended, and only one thread may read how."""


class Child:
    """One forked process; what it writes goes to the end of `log`. It may not have begun yet when this is made."""

    def __init__(self, order: Order, *, log: Path) -> None:
        self.order = order
        self._log = log
        self._words: dict[str, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._pipe, theirs = _FORKED.Pipe(duplex=False)
        self._process = _FORKED.Process(target=_live, args=(order, log, theirs), daemon=True)
        with _LOCK:
            self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self._handle = os.pidfd_open(self.pid)
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_for(self, word: str, *, seconds: float = WITHIN) -> dict[str, Any]:
        """Wait until the child tells this, and give what it tells with it."""
        with self._changed:
            heard = self._changed.wait_for(lambda: word in self._words or self.has_ended, seconds)
            if word not in self._words:
                how = f"ended with {self._words['ended']['code']}" if heard else f"said nothing in {seconds:.0f} s"
                raise AssertionError(f"waited for {word!r}, but {self.order} {how}:\n{self.log}")
            return self._words[word]

    def wait_until_stopped(self) -> None:
        """Wait until it has stopped itself."""
        state = Path(f"/proc/{self.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "a stopped process", within=WITHIN)

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
    def has_ended(self) -> bool:
        return "ended" in self._words

    def signal(self, number: Signals) -> None:
        """Send a signal; nothing if it has ended."""
        with self._changed, suppress(ProcessLookupError):
            if not self.has_ended:
                pidfd_send_signal(self._handle, number)

    def end(self, number: Signals = SIGTERM, *, seconds: float = WITHIN) -> int:
        """Send a signal and wait for the end."""
        self.signal(number)
        return self.wait(seconds=seconds)

    @property
    def log(self) -> str:
        """What it, and others with the same log, wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def _listen(self) -> None:
        with self._pipe, suppress(EOFError, OSError):
            while True:
                self._hear(*self._pipe.recv())
        wait([self._process.sentinel])
        with _LOCK:
            code = self._process.exitcode
        self._hear("ended", {"code": code})
        os.close(self._handle)

    def _hear(self, word: str, facts: dict[str, Any]) -> None:
        with self._changed:
            self._words[word] = facts
            self._changed.notify_all()


def _live(order: Order, log: Path, pipe: Connection) -> None:
    from tests.crash.victim import live

    for name in [name for name in os.environ if name.startswith("VOICEFLOW_")]:
        del os.environ[name]
    with log.open("ab", buffering=0) as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)

    def tell(word: str, **facts: object) -> None:
        with suppress(OSError):
            pipe.send((word, facts))

    live(order, tell)
    sys.stdout.flush()
    sys.stderr.flush()
