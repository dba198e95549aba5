"""The program as tests run it: in this process, where that is enough, or as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.processes import Process
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
    """`voiceflow` in a process of its own, and in a session of its own, as at a terminal."""

    arguments: Sequence[object]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        ours = {name: value for name, value in os.environ.items() if name.startswith("VOICEFLOW_")}
        self.running = Process(
            *map(str, self.arguments), env={**ours, **self.environment}, folder=self.folder, in_session=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running.end(signal.SIGKILL)

    def wait_for(self, text: str) -> str:
        """The first line that holds `text`, from the last one waited for on."""
        return self.running.wait_for(re.escape(text), seconds=TIMEOUT).string

    def tell(self, number: signal.Signals) -> None:
        self.running.signal(number)

    def press(self, number: signal.Signals) -> None:
        """Send a signal as a terminal does at Ctrl-C: to all processes of the foreground group."""
        os.killpg(self.running.pid, number)

    def end(self) -> Ended:
        """Wait until it ends by itself."""
        code = self.running.wait(seconds=TIMEOUT)
        return Ended(code, "".join(self.running.stdout), "".join(self.running.stderr))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        """Tell it to stop, and wait."""
        self.tell(number)
        return self.end()


def written(folder: Path, name: str, text: object) -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path
