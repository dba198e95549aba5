"""The campaign and the program of the README are run as they are printed, in the sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.docs.test_tutorial import Shell, free_port

README = ROOT / "README.md"


@pytest.mark.slow
def test_the_campaign_and_the_program_of_the_readme_end_with_outcomes(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    program = next(block for block in blocks(README, language="python") if "asyncio.run" in block.text)
    (tmp_path / "order.py").write_text(program.text, encoding="utf-8")
    (campaign,) = blocks(README, language="sh")
    commands = campaign.text
    for port in ("8080", "8088"):
        commands = commands.replace(port, str(free_port()))
    shell = Shell(tmp_path)
    try:
        code, printed = shell.type(commands)
        assert code == 0, printed
        _, report = shell.type("voiceflow report --batch reminder-campaign --json 2>/dev/null")
        _, order = shell.type("python order.py 2>/dev/null")
    finally:
        shell.close()
    found = json.loads(report)
    ended = {state: count for state, count in found["states"].items() if count}
    assert set(ended) <= {"completed", "unreached", "failed"}, printed
    assert found["total"] == sum(ended.values()) == sum(found["outcomes"].values()) == 26
    # The receiver in the background writes its log into the same terminal.
    said = next(line.split() for line in order.splitlines() if line.startswith("default."))
    assert said[1] in {"completed", "unreached"}
