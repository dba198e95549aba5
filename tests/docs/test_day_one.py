"""The start with an account is walked through, in the sandbox and in three processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Block, blocks
from tests.docs.test_tutorial import Shell, free_port, wait_for

PAGE = DOCS / "start.md"
FIRST = "## With your 8x8 account"


def steps() -> list[Block]:
    """The commands of the page, those of the rehearsal first, as its first paragraphs ask for."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found = [block for block in blocks(PAGE, language="sh") if block.line > lines.index(FIRST)]
    rehearsal = [block for block in found if lines[block.line - 4] == "<!-- rehearsal -->"]
    assert len(rehearsal) == 2
    return rehearsal + [block for block in found if block not in rehearsal]


@pytest.mark.slow
def test_the_steps_with_an_account_can_be_followed(tmp_path: Path) -> None:
    ports = {"8080": free_port(), "8088": free_port()}
    shell = Shell(tmp_path)
    story = ""
    try:
        for step in steps():
            text = step.text
            for printed, real in ports.items():
                text = text.replace(printed, str(real))
            code, output = shell.type(text)
            story += f"$ {text}{output}"
            assert code == 0, story
            for command, port in (("voiceflow serve", "8080"), ("voiceflow sandbox", "8088")):
                if command in text:
                    wait_for(ports[port])
            if "voiceflow serve" in text:
                story += until_registered(shell)
    finally:
        shell.close()
    told = re.findall(r"^\d\d:\d\d:\d\d  (\w+) ", story, re.MULTILINE)
    assert told == ["checked", "enqueued", "journalled", "accepted", "summary"], story
    assert "0 failures" in story


def until_registered(shell: Shell) -> str:
    """The receiver registers itself once it listens: what 8x8 knows tells when it has."""
    for _ in range(30):
        _, listed = shell.type("voiceflow account webhooks")
        if "VSS" in listed:
            return listed
    pytest.fail("the receiver did not register itself")
