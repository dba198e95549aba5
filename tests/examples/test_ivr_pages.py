"""The commands of the page of examples are typed as they are printed: sandbox, receiver, campaign, worker, report."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.test_tutorial import Shell, free_port, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def shell(folder: Path) -> Iterator[Shell]:
    opened = Shell(folder)
    yield opened
    opened.close()


def test_the_commands_of_the_appointment_can_be_typed(shell: Shell) -> None:
    ports = {"8080": free_port(), "8088": free_port()}
    story = ""
    for step in blocks(DOCS / "examples.md", language="sh"):
        text = step.text
        for printed, real in ports.items():
            text = text.replace(f":{printed}", f":{real}").replace(f"--port {printed}", f"--port {real}")
        code, output = shell.type(text)
        story += f"$ {text}{output}"
        assert code == 0, story
        for printed, real in ports.items():
            if f"--port {printed}" in step.text:
                wait_for(real)
    _, ledger = shell.type(f"curl --silent http://127.0.0.1:{ports['8088']}/_sandbox/calls")
    rang = Counter(entry["destination"] for entry in json.loads(ledger) if entry["rang"])
    assert rang == {f"+658765432{place}": 1 for place in range(2, 8)} | {"+6587654321": 2}, story
    _, printed = shell.type("voiceflow report --batch appointments --json")
    report = json.loads(printed[printed.index("{") :])
    assert {state: count for state, count in report["states"].items() if count} == {"completed": 7}, story
    assert report["digits"] == {"1": 6, "3": 1}, story
    assert re.search(r"\bconfirmed +6\b", story), story
    assert re.search(r"\bcalled off +1\b", story), story
