"""The program at a terminal of its own: what was drawn is looked at, and the window is closed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cli.running import TIMEOUT
from tests.support.waiting import wait_until

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


class Terminal:
    """`voiceflow` at a terminal of 100 by 40, as the leader of its session, as in an ssh window."""

    def __init__(self, arguments: Sequence[str], folder: Path, *, nohup: bool = False) -> None:
        self._window, inside = pty.openpty()

        def at_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if nohup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "voiceflow_worker", *arguments],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            cwd=folder,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
            preexec_fn=at_terminal,  # noqa: PLW1509
        )
        os.close(inside)
        self._drawn = b""
        self._closing = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)
        self.close()

    def _read(self) -> None:
        with suppress(OSError):
            while not self._closing:  # a window that somebody reads from stays open
                if select.select([self._window], [], [], 0.05)[0]:
                    self._drawn += os.read(self._window, 65536)

    @property
    def shown(self) -> str:
        """What was drawn."""
        return _ESCAPES.sub("", self._drawn.decode(errors="replace"))

    def shows(self, *texts: str) -> str:
        """Wait until all of these texts were drawn; gives what was drawn."""
        wait_until(lambda: all(text in self.shown for text in texts), lambda: f"{texts} in {self.shown}")
        return self.shown

    def close(self) -> None:
        """Close the window: the kernel sends SIGHUP, and whoever writes to the terminal gets EIO."""
        self._closing = True
        self._reader.join()
        os.close(self._window)

    def end(self) -> int:
        """Wait until the program ends."""
        try:
            return self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
