"""The desk of an operator: a folder, commands typed into a terminal, what they printed, and pictures of the pages."""

from __future__ import annotations

import base64
import json
import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.console.browser.reader import Reader
from tests.docs.test_tutorial import free_port
from tests.support.processes import Process, running, voiceflow

LONGEST = 1800.0
"""Seconds that a command may take: the largest campaign on a busy machine."""
QUALITY = 70
"""Of the pictures, in percent."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A command as it was typed, and what it printed."""

    command: str
    code: int
    seconds: float
    printed: str
    stdout: str

    @property
    def documents(self) -> list[Any]:
        """The JSON documents on its standard output."""
        return [json.loads(line) for line in self.stdout.splitlines()]


@dataclass
class Desk:
    """The desk, in a folder with the settings. Ports are printed as 8080 and 8088, whatever they are."""

    folder: Path
    pictures: Path
    env: dict[str, str] = field(default_factory=dict[str, str])
    typed: list[Typed] = field(default_factory=list[Typed])
    ports: dict[str, int] = field(default_factory=lambda: {"8080": free_port(), "8088": free_port()})

    def real(self, text: str) -> str:
        """A text with the ports that are there."""
        for printed, port in self.ports.items():
            text = text.replace(printed, str(port))
        return text

    @property
    def receiver(self) -> str:
        return self.real("http://127.0.0.1:8080")

    @property
    def sandbox(self) -> str:
        return self.real("http://127.0.0.1:8088")

    def settings(self, text: str) -> None:
        """Write the settings of all commands."""
        (self.folder / ".env").write_text(self.real(text), encoding="utf-8")

    def types(self, command: str, *, code: int = 0) -> Typed:
        """Type a command, wait for its end, and look at its exit code."""
        began = time.monotonic()
        done = voiceflow(*self._arguments(command), env=self.env, seconds=LONGEST, folder=self.folder)
        returned = done.wait()
        typed = Typed(command, returned, time.monotonic() - began, done.told, "".join(done.stdout))
        self.typed.append(typed)
        assert returned == code, f"$ {command}\n{done.told[-5000:]}"
        return typed

    def quietly(self, command: str) -> str:
        """What a command prints that belongs to the test, and not to the campaign."""
        done = voiceflow(*self._arguments(command), env=self.env, seconds=LONGEST, folder=self.folder)
        assert done.wait() == 0, done.told[-5000:]
        return "".join(done.stdout)

    @contextmanager
    def starts(self, command: str, *, ready: str) -> Iterator[Process]:
        """Type a command that stays, and wait until it says that it is ready."""
        with running(*self._arguments(command), env=self.env, folder=self.folder) as process:
            process.wait_for(ready, seconds=120)
            self.typed.append(Typed(command, 0, 0.0, "", ""))
            yield process

    def stops(self, process: Process) -> None:
        """Press Ctrl-C."""
        code = process.end(signal.SIGTERM, seconds=120)
        assert code == 0, process.told[-5000:]

    def order(self, path: str, *orders: dict[str, Any]) -> None:
        """Order something of the sandbox."""
        answer = httpx.post(f"{self.sandbox}/_sandbox/{path}", json=orders, trust_env=False, timeout=60)
        answer.raise_for_status()

    def ledger(self) -> list[dict[str, Any]]:
        """What the sandbox says that it was asked to call."""
        answer = httpx.get(f"{self.sandbox}/_sandbox/calls", trust_env=False, timeout=300)
        found: list[dict[str, Any]] = answer.json()
        return found

    def picture(self, reader: Reader, name: str) -> None:
        """A picture of what the reader sees."""
        shot = reader.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
        self.pictures.mkdir(parents=True, exist_ok=True)
        (self.pictures / f"{name}.webp").write_bytes(base64.b64decode(shot["data"]))

    def story(self) -> str:
        """All that was typed, with what it printed, in the real ports' printed form."""
        return "\n".join(
            f"$ {typed.command}\n({typed.seconds:.1f} s, exit {typed.code})\n{self._printed(typed.printed)}\n"
            for typed in self.typed
        )

    def _printed(self, text: str) -> str:
        for printed, port in self.ports.items():
            text = text.replace(str(port), printed)
        lines: Sequence[str] = text.splitlines()
        if len(lines) > 80:
            lines = [*lines[:40], f"… {len(lines) - 80} lines …", *lines[-40:]]
        return "\n".join(lines)

    def _arguments(self, command: str) -> list[str]:
        program, *arguments = shlex.split(self.real(command))
        assert program == "voiceflow", command
        return arguments
