"""The start in the sandbox, and then a lost answer, are walked through as printed: files written, commands typed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, section
from tests.support.waiting import wait_until

STEPS = ((DOCS / "start.md", "In the sandbox"), (DOCS / "sandbox.md", "Lose an answer"))

_STEP = re.compile(
    r"(?:<!-- (?:file: (?P<file>\S+)|exit code (?P<code>\d+)) -->\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Shell:
    """One bash for all steps: what a step exports, or puts into the background, is there for the next ones."""

    def __init__(self, folder: Path) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._bash = subprocess.Popen(
            ["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
            text=True, bufsize=1, env={"PATH": path, "HOME": str(folder)}, start_new_session=True,
        )  # fmt: skip

    def type(self, text: str) -> tuple[int, str]:
        """Run commands; gives the exit code of the last one, and everything they printed."""
        stdin, stdout = self._bash.stdin, self._bash.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f'{text}\ncode=$?; echo; echo "=== $code"\n')
        printed = ""
        while not (ended := re.search(r"^=== (\d+)\n\Z", printed, re.MULTILINE)):
            line = stdout.readline()
            assert line, f"the shell ended; it printed:\n{printed}"
            printed += line
        return int(ended[1]), printed[: ended.start()]

    def close(self) -> None:
        """End the shell and what it left in the background."""
        self.type("kill $(jobs -p) 2>/dev/null; wait")
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._bash.wait(30)
        assert self._bash.stdout is not None
        self._bash.stdout.close()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    yield opened
    opened.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    # A page's own ports are replaced one after the other: neither may be a part of a new one.
    return free_port() if {"8080", "8088"} & {str(port)[-4:], str(port)[:4]} else port


def wait_for(port: int) -> None:
    def is_listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(is_listening, f"a process that listens on port {port}")


@pytest.mark.slow
def test_the_steps_in_the_sandbox_can_be_followed(tmp_path: Path, shell: Shell) -> None:
    ports = {"8080": free_port(), "8088": free_port()}
    story = ""
    folder = tmp_path
    steps = "".join(section(page.read_text(encoding="utf-8"), heading) for page, heading in STEPS)
    for step in _STEP.finditer(steps):
        if step["file"]:
            (folder / step["file"]).write_text(step["text"], encoding="utf-8")
            continue
        assert step["language"] == "sh", f"nobody runs a block of {step['language']}"
        text = step["text"]
        for printed, real in ports.items():
            text = text.replace(printed, str(real))
        code, output = shell.type(text)
        story += f"$ {text}{output}"
        assert code == int(step["code"] or 0), story
        folder = tmp_path / "campaign"
        if "serve" in text:
            for port in ports.values():
                wait_for(port)
    assert "3 duplicates" in story
    assert "answered: " in story
    assert "in doubt: 1 call" in story
    assert "is accepted: resolved as placed" in story
    _, listed = shell.type("voiceflow calls list --json")
    calls = [json.loads(line) for line in listed.split("\n") if line]
    assert [call["state"] for call in calls].count("accepted") == 1
    assert len({call["unique_key"] for call in calls}) == 6
