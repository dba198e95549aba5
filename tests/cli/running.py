"""The program as tests run it: in this process, where that is enough, or as a process of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from voiceflow_worker.cli.program import run

TIMEOUT = 60.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout, and nothing beside it."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout, and nothing beside them."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Program:
    """`voiceflow`, run in this process."""

    folder: Path
    capfd: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Ended:
        self.capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = self.capfd.readouterr()
        return Ended(code, out, err)


@dataclass
class Spawned:
    """`voiceflow` in a process of its own; what it writes is kept line by line."""

    arguments: Sequence[object]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: int = subprocess.DEVNULL

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "voiceflow_worker", *map(str, self.arguments)]
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
            stdin=self.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as at a terminal of its own, so that `press` reaches it and its children alone
        )
        self._out: list[str] = []
        self._err: list[str] = []
        self._news: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._out), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._err, self._news), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._finish()

    def wait_for(self, text: str) -> str:
        """The first line on stderr that holds `text`, from the last one waited for on."""
        until = time.monotonic() + TIMEOUT
        while True:
            try:
                line = self._news.get(timeout=max(until - time.monotonic(), 0.001))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"{self.arguments} did not say {text!r}:\n{''.join(self._err)}")
            if text in line:
                return line

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def press(self, number: signal.Signals) -> None:
        """Send a signal as a terminal does at Ctrl-C: to all processes of the foreground group."""
        os.killpg(self.process.pid, number)

    def end(self) -> Ended:
        """Wait until it ends by itself."""
        self.process.wait(TIMEOUT)
        return self._finish()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        """Tell it to stop, and wait."""
        self.tell(number)
        return self.end()

    def _finish(self) -> Ended:
        self.process.wait(TIMEOUT)
        for reader in self._readers:
            reader.join(TIMEOUT)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return Ended(self.process.returncode, "".join(self._out), "".join(self._err))

    @staticmethod
    def _read(stream: Any, lines: list[str], news: queue.Queue[str | None] | None = None) -> None:
        for line in stream:
            lines.append(line)
            if news is not None:
                news.put(line)
        if news is not None:
            news.put(None)
