"""Pages are walked through as printed: files are written, commands typed into one shell, on ports of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.clients import SECRET
from tests.console.signing_in import Form, Page
from tests.docs.pages import DOCS, ROOT, Block, blocks, section
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


class Shell:
    """One bash for all steps: what a step exports, or puts into the background, is there for the next ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.story = ""
        self.ports = {"8080": free_port(), "8088": free_port()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._bash = subprocess.Popen(
            ["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
            text=True, bufsize=1, env={"PATH": path, "HOME": str(folder)}, start_new_session=True,
        )  # fmt: skip

    def type(self, text: str, *, code: int = 0) -> str:
        """Run commands, with the ports that are there; gives what they printed. Returns once started servers listen."""
        stdin, stdout = self._bash.stdin, self._bash.stdout
        assert stdin is not None
        assert stdout is not None
        here = re.sub(r"(?<=[:t ])(8080|8088)\b", lambda match: str(self.ports[match[0]]), text)
        stdin.write(f'{here}\ncode=$?; echo; echo "=== $code"\n')
        printed = ""
        while not (ended := re.search(r"^=== (\d+)\n\Z", printed, re.MULTILINE)):
            line = stdout.readline()
            assert line, f"the shell ended; it printed:\n{printed}"
            printed += line
        self.story += f"$ {here}{printed}"
        assert int(ended[1]) == code, self.story
        for port, real in self.ports.items():
            if f"--port {port}" in text:
                wait_until(lambda: listens(real), f"a process that listens on port {real}")  # noqa: B023
        return printed[: ended.start()]

    def close(self) -> None:
        """End the shell and what it left in the background."""
        self.type("kill $(jobs -p) 2>/dev/null; wait; true")
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._bash.wait(30)
        assert self._bash.stdout is not None
        self._bash.stdout.close()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    opened = Shell(tmp_path)
    yield opened
    opened.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sh(page: Path) -> list[Block]:
    return blocks(page, language="sh")


STEP = re.compile(
    r"(?:<!-- (?:file: (?P<file>\S+)|exit code (?P<code>\d+)) -->\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def walk(shell: Shell, text: str, folder: Path) -> None:
    """Write the files of a page into a folder, and type its commands."""
    for each in STEP.finditer(text):
        if each["file"]:
            (folder / each["file"]).write_text(each["text"], encoding="utf-8")
        elif each["language"] == "sh":
            shell.type(each["text"], code=int(each["code"] or 0))


def test_the_first_list_and_then_a_lost_answer(shell: Shell) -> None:
    (shell.folder / "campaign").mkdir()
    shell.type("mkdir() { command mkdir -p $@; }")  # so that the files can be there before the page makes the folder
    start, sandbox = ((DOCS / name).read_text(encoding="utf-8") for name in ("start.md", "sandbox.md"))
    walk(shell, start + section(sandbox, "Lose an answer"), shell.folder / "campaign")
    for printed in ("3 duplicates", "answered: ", "in doubt: 1 call", "is accepted: resolved as placed"):
        assert printed in shell.story
    calls = [json.loads(line) for line in shell.type("voiceflow calls list --json").split("\n") if line[:1] == "{"]
    assert [call["state"] for call in calls].count("accepted") == 1
    assert len({call["unique_key"] for call in calls}) == 6


def test_going_live_in_the_rehearsal(shell: Shell) -> None:
    lines = (DOCS / "go-live.md").read_text(encoding="utf-8").splitlines()
    found = sh(DOCS / "go-live.md")
    rehearsal = [each for each in found if lines[each.line - 4] == "<!-- rehearsal -->"]  # first, as the page asks for
    assert len(rehearsal) == 2
    for step in rehearsal + [each for each in found if each not in rehearsal]:
        shell.type(step.text)
        if "voiceflow serve" in step.text:  # it registers itself once it listens
            wait_until(lambda: "VSS" in shell.type("voiceflow account"), "a webhook", within=60, every=0.5)
    steps = re.findall(r"^\d\d:\d\d:\d\d  (\w+) ", shell.story, re.MULTILINE)
    assert steps[0] == "checked", shell.story
    assert steps[-1] in {"completed", "unreached"}, shell.story
    assert "0 failures" in shell.story


def test_each_block_of_the_readme(shell: Shell) -> None:
    """In place of a clone there are a `./dev`, which runs the demo of this environment, and its examples."""
    (shell.folder / "dev").write_text('#!/bin/sh\nexec voiceflow "$@"\n')
    (shell.folder / "dev").chmod(0o755)
    (shell.folder / ".venv/bin").mkdir(parents=True)
    (shell.folder / ".venv/bin/activate").touch()
    walk(shell, (ROOT / "README.md").read_text(encoding="utf-8"), shell.folder)
    assert "27 enqueued" in shell.story
    assert "is submitted; its session at 8x8 is" in shell.story
    report = json.loads(shell.type("voiceflow report --batch people --json 2>/dev/null"))
    states = {state: count for state, count in report["states"].items() if count}
    assert set(states) <= {"completed", "unreached", "failed"}, shell.story
    assert report["total"] == sum(states.values()) == 2
    (program,) = blocks(ROOT / "README.md", language="python")
    (shell.folder / "order.py").write_text(program.text, encoding="utf-8")
    # The receiver in the background writes its log into the same terminal.
    assert "completed" in shell.type("python order.py 2>/dev/null").splitlines()


def test_the_first_list_in_the_console(shell: Shell) -> None:
    """The steps of the page, typed as a browser sends them."""
    for step in sh(DOCS / "start-console.md"):
        shell.type(step.text)
    text = (DOCS / "start-console.md").read_text(encoding="utf-8")
    (people,) = blocks(DOCS / "start-console.md", language="csv")
    say = re.search(r"type `(Hello .*?)`", text)
    secret = re.search(r"\*Secret\* is `(.*?)`", text)
    assert say is not None
    assert secret is not None
    base = f"http://127.0.0.1:{shell.ports['8080']}"
    with httpx.Client(base_url=base, headers={"Origin": base}, follow_redirects=True, timeout=60) as browser:
        browser.post("/ui/sign-in", data={"name": "Mei", "secret": secret[1], "way": ""})
        pasted = textwrap.dedent(people.text)
        shown = browser.post("/ui/campaign", data={"pasted": pasted}, files={"file": ("", b"")})

        def press(button: str, **typed: str) -> None:
            nonlocal shown
            data: dict[str, Any] = {}
            for name, value in Form(shown.text).sent:
                data.setdefault(name, []).append(value)
            shown = browser.post(shown.url, data={**data, **typed, "do": button}, files={"file": ("", b"")})

        press("check", **{"column.destination": "Mobile", "country": "SG", "say": say[1], "any": "yes"})
        assert "'unknown' is not one phone number" in Page(shown.text).text
        press("check", skip_bad="yes")
        assert "Call 2 people" in Page(shown.text).text
        press("try", number="+6581230000")
        press("start")
        batch = str(shown.url)
        wait_until(lambda: "All 2 calls have ended" in Page(browser.get(batch).text).text, "both ends", every=0.5)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_http_api(shell: Shell) -> None:
    (shell.folder / "people.csv").write_text("Mobile,name\n8765 4302,Ben\n", encoding="utf-8")
    settings = {
        "VOICEFLOW_STORE": "sqlite:///calls.db", "VOICEFLOW_API_SECRET": SECRET, "CALLS_URL": "http://127.0.0.1:8080",
        "VOICEFLOW_SOURCE": "+6531234567", "VOICEFLOW_VOICE_PROFILE": "en-IE-EmilyNeural",
        "AUTH": f"Authorization: Bearer {SECRET}",
    }  # fmt: skip
    for name, value in settings.items():
        shell.type(f"export {name}='{value}'")
    shell.type("curl() { command curl -w '\\n' --fail-with-body \"$@\"; }")
    shell.type("voiceflow serve --api --port 8080 >serve.log 2>&1 &")
    printed = "".join(shell.type(f"set -e; {each.text}") for each in sh(DOCS / "http.md"))
    answers = [json.loads(line) for line in printed.splitlines() if line[:1] == "{"]
    call, waited, cancelled, started, preview, held, resumed, over, paused, rate = answers
    assert (call["unique_key"], waited["id"], cancelled["state"]) == ("order-42", call["id"], "cancelled")
    assert (started["enqueued"], preview["dry_run"], preview["valid"]) == (1, True, 1)
    assert (held["state"], resumed["state"], over["cancelled"]) == ("held", "open", 1)
    assert (paused["state"], rate["rate"]) == ("held", 5)
