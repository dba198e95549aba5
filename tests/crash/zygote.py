"""The zygote: a process that has imported everything and forks what it is ordered, so that a start takes milliseconds.

It has one thread and no event loop of its own, and opens nothing that a child could inherit but pipes, which the child
closes first. It waits for its children and tells how each ended; when its own parent is gone it kills them and ends.

Started as `python -m tests.crash.zygote FD`, with one end of a socket pair.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.crash.orders import Order

DRIVERS = (
    "voiceflow_worker.backends.postgres",
    "voiceflow_worker.backends.redis",
    "voiceflow_worker.backends.sqlite",
    "voiceflow_worker.gateway.connections",
)
"""Loaded when first used, by a child each time anew, unless they are loaded before it is forked."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a process; what it writes goes to the end of `log`."""

    child: int
    order: Order
    log: Path


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to a child, unless it has ended."""

    child: int
    number: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a child tells: `ready`, `drained`, … ; `born`, `stopped` and `ended` come from the zygote."""

    child: int
    word: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Child:
    number: int
    pid: int
    pipe: Connection


class Zygote:
    """Forks, signals, waits and tells."""

    def __init__(self, parent: Connection) -> None:
        self._parent = parent
        self._children: dict[int, _Child] = {}
        self._woken, waker = socket.socketpair()
        self._woken.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Work until the parent is gone."""
        self._tell(Told(0, "ready", {"pid": os.getpid()}))
        try:
            while True:
                for ready in wait([self._parent, self._woken, *(child.pipe for child in self._children.values())]):
                    if ready is self._parent:
                        self._obey(self._parent.recv())
                    elif ready is not self._woken:
                        self._hear(ready)
                self._reap()
        except (EOFError, ConnectionError):
            pass
        finally:
            for child in self._children.values():
                os.kill(child.pid, signal.SIGKILL)

    def _obey(self, order: Spawn | Signal) -> None:
        match order:
            case Spawn():
                self._fork(order)
            case Signal(child=number) if number in self._children:
                # Not reaped yet, so the id is still the child's own.
                os.kill(self._children[number].pid, order.number)
            case Signal():
                pass

    def _fork(self, order: Spawn) -> None:
        if _threads() > 1:
            raise RuntimeError("the zygote has threads: what they hold would be held for ever in its children")
        here, there = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            here.close()
            self._be_born(order, Connection(there.detach()))
        there.close()
        self._children[order.child] = _Child(order.child, pid, Connection(here.detach()))
        self._tell(Told(order.child, "born", {"pid": pid}))

    def _be_born(self, order: Spawn, pipe: Connection) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for pipe_of_others in (self._parent, *(child.pipe for child in self._children.values())):
                pipe_of_others.close()
            self._woken.close()
            self._waker.close()
            log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for standard in (1, 2):
                os.dup2(log, standard)
            os.close(log)

            def tell(word: str, **facts: object) -> None:
                with contextlib.suppress(OSError):
                    pipe.send((word, facts))

            from tests.crash.victim import live

            live(order.order, tell)
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is, it must not run on as a second zygote
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _hear(self, ready: object) -> None:
        for child in self._children.values():
            if child.pipe is ready:
                with contextlib.suppress(EOFError, OSError):
                    word, facts = child.pipe.recv()
                    self._tell(Told(child.number, word, facts))
                    return
                # Its end of the pipe is closed: it has ended, or will not say more; `_reap` tells which.
                self._await_end(child)
                return

    def _await_end(self, child: _Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        self._bury(child, status)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                continue
            if os.WIFSTOPPED(status):
                self._tell(Told(child.number, "stopped", {}))
                continue
            while child.pipe.poll():
                try:
                    word, facts = child.pipe.recv()
                except (EOFError, OSError):
                    break
                self._tell(Told(child.number, word, facts))
            self._bury(child, status)

    def _bury(self, child: _Child, status: int) -> None:
        child.pipe.close()
        del self._children[child.number]
        self._tell(Told(child.number, "ended", {"code": os.waitstatus_to_exitcode(status)}))

    def _tell(self, told: Told) -> None:
        self._parent.send(told)


def _threads() -> int:
    """How many threads this process has; where the system tells, those that Python did not start count too."""
    told = Path("/proc/self/task")
    return len(list(told.iterdir())) if told.exists() else threading.active_count()


def main() -> None:
    """Import everything, then serve."""
    for module in DRIVERS:
        import_module(module)
    from tests.crash.victim import ssl_context

    ssl_context()
    gc.collect()
    gc.freeze()
    Zygote(Connection(int(sys.argv[1]))).run()


if __name__ == "__main__":
    # Not as __main__: what is sent through the pipe must be of the module that the parent knows.
    from tests.crash import zygote

    zygote.main()
