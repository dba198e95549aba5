"""Pages are walked through as printed: files are written, commands typed into one shell, on ports of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.clients import SECRET
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


def test_the_start_in_the_sandbox_and_then_a_lost_answer(shell: Shell) -> None:
    step = re.compile(
        r"(?:<!-- (?:file: (?P<file>\S+)|exit code (?P<code>\d+)) -->\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
        re.MULTILINE | re.DOTALL,
    )
    pages = ((DOCS / "start.md", "In the sandbox"), (DOCS / "sandbox.md", "Lose an answer"))
    folder = shell.folder
    for each in step.finditer("".join(section(page.read_text(encoding="utf-8"), title) for page, title in pages)):
        if each["file"]:
            (folder / each["file"]).write_text(each["text"], encoding="utf-8")
            continue
        assert each["language"] == "sh", f"nobody runs a block of {each['language']}"
        shell.type(each["text"], code=int(each["code"] or 0))
        folder = shell.folder / "campaign"
    for told in ("3 duplicates", "answered: ", "in doubt: 1 call", "is accepted: resolved as placed"):
        assert told in shell.story
    calls = [json.loads(line) for line in shell.type("voiceflow calls list --json").split("\n") if line[:1] == "{"]
    assert [call["state"] for call in calls].count("accepted") == 1
    assert len({call["unique_key"] for call in calls}) == 6


def test_the_start_with_an_account_in_the_rehearsal(shell: Shell) -> None:
    lines = (DOCS / "start.md").read_text(encoding="utf-8").splitlines()
    found = [each for each in sh(DOCS / "start.md") if each.line > lines.index("## With your 8x8 account")]
    rehearsal = [each for each in found if lines[each.line - 4] == "<!-- rehearsal -->"]  # first, as the page asks for
    assert len(rehearsal) == 2
    for step in rehearsal + [each for each in found if each not in rehearsal]:
        shell.type(step.text)
        if "voiceflow serve" in step.text:  # it registers itself once it listens
            wait_until(lambda: "VSS" in shell.type("voiceflow account"), "a webhook", within=60, every=0.5)
    told = re.findall(r"^\d\d:\d\d:\d\d  (\w+) ", shell.story, re.MULTILINE)
    assert told[0] == "checked", shell.story
    assert told[-1] in {"completed", "unreached"}, shell.story
    assert "0 failures" in shell.story


def test_the_campaign_and_the_program_of_the_readme(shell: Shell) -> None:
    program = next(each for each in blocks(ROOT / "README.md", language="python") if "asyncio.run" in each.text)
    (shell.folder / "order.py").write_text(program.text, encoding="utf-8")
    (campaign,) = sh(ROOT / "README.md")
    shell.type(campaign.text)
    report = json.loads(shell.type("voiceflow report --batch reminder-campaign --json 2>/dev/null"))
    states = {state: count for state, count in report["states"].items() if count}
    assert set(states) <= {"completed", "unreached", "failed"}, shell.story
    assert report["total"] == sum(states.values()) == sum(report["outcomes"].values()) == 27
    # The receiver in the background writes its log into the same terminal.
    order = shell.type("python order.py 2>/dev/null")
    assert "completed" in order.splitlines()


def test_the_commands_of_the_appointment(shell: Shell) -> None:
    for step in sh(DOCS / "examples.md"):
        shell.type(step.text)
    ledger = json.loads(shell.type("curl --silent http://127.0.0.1:8088/_sandbox/calls"))
    rang = Counter(entry["destination"] for entry in ledger if entry["rang"])
    assert rang == {f"+658765432{place}": 1 for place in range(2, 8)} | {"+6587654321": 2}, shell.story
    printed = shell.type("voiceflow report --batch appointments --json")
    report = json.loads(printed[printed.index("{") :])
    assert {state: count for state, count in report["states"].items() if count} == {"completed": 7}, shell.story
    assert report["answers"] == {"confirmed": 6, "called off": 1}, shell.story
    assert re.search(r"\bconfirmed +6\b", shell.story), shell.story
    assert re.search(r"\bcalled off +1\b", shell.story), shell.story


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
    told = [json.loads(line) for line in printed.splitlines() if line[:1] == "{"]
    call, waited, cancelled, started, preview, shown, held, resumed, over, queue, *rest = told
    paused, rate, off = rest
    assert (call["unique_key"], waited["id"], cancelled["state"]) == ("order-42", call["id"], "cancelled")
    assert (started["enqueued"], preview["dry_run"], preview["valid"]) == (1, True, 1)
    assert (shown["ended"], held["state"], resumed["state"], over["cancelled"]) == (False, "held", "open", 1)
    assert (queue["total"], paused["state"], rate["rate"]) == (2, "held", 5)
    assert (off["number"], off["removed"]) == ("+6587654399", True)
