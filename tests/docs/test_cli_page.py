from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import lru_cache

import pytest

from tests.docs.pages import DOCS, section

PAGE = DOCS / "cli.md"
SHARED = {"--help", "--help-all", "--version"}
SECTIONS = [
    tuple(heading.split())
    for heading in re.findall(r"^## voiceflow (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
]

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_COMMAND = re.compile(r"^│ (?P<name>[a-z][a-z-]*) {2,}\S", re.MULTILINE)


HELP = """
import contextlib, io, json, sys
from voiceflow_worker.cli.program import run

texts = {}
for command in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run([*command, "--help-all"]) == 0
    texts[" ".join(command)] = printed.getvalue()
json.dump(texts, sys.stdout)
"""


@lru_cache
def help_texts() -> dict[str, str]:
    """The `--help-all` of all commands on the page and their groups, from one process without a terminal's colours."""
    asked = sorted({command[:length] for command in SECTIONS for length in range(len(command) + 1)})
    run = subprocess.run(
        [sys.executable, "-c", HELP],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "PATH": ""},
    )
    found: dict[str, str] = json.loads(run.stdout)
    return found


def help_of(*command: str) -> str:
    """The help text of a command; empty for one that the page does not have."""
    return help_texts().get(" ".join(command), "")


def commands(*group: str) -> list[tuple[str, ...]]:
    """Every command that the help names, groups opened."""
    text = help_of(*group)
    if group and not re.search(rf"Usage: voiceflow {' '.join(group)} COMMAND", text):
        return [group]
    return [command for name in _COMMAND.findall(text) for command in commands(*group, name)]


def options_of(text: str) -> set[str]:
    """The options in the panels of a help text; those in its sentences and examples are left out."""
    rows = re.findall(r"^│ +(?:\* +)?((?:--[a-z][a-z0-9-]* )+)", text, re.MULTILINE)
    return {option for row in rows for option in _OPTION.findall(row)}


@pytest.mark.slow
def test_the_page_has_every_command_and_no_other() -> None:
    assert sorted(SECTIONS) == sorted(commands())


@pytest.mark.parametrize("command", SECTIONS, ids=" ".join)
def test_a_section_has_every_option_of_its_command_and_no_other(command: tuple[str, ...]) -> None:
    text = section(PAGE.read_text(encoding="utf-8"), f"voiceflow {' '.join(command)}")
    options = options_of(help_of(*command))
    if "[the options of `check`](#voiceflow-check)" in text:
        text += section(PAGE.read_text(encoding="utf-8"), "voiceflow check").replace("--fetch", "")
    missing = options - SHARED - set(_OPTION.findall(text)) - shared_options()
    assert not missing, f"the section does not have {', '.join(sorted(missing))}"
    rows = re.findall(r"^\| (`--.*?) \|", text, re.MULTILINE)
    strange = {option for row in rows for option in _OPTION.findall(row)} - options
    assert not strange, f"{', '.join(sorted(strange))}: not in its --help"


@pytest.mark.parametrize("command", SECTIONS, ids=" ".join)
def test_each_command_has_an_example(command: tuple[str, ...]) -> None:
    text = section(PAGE.read_text(encoding="utf-8"), f"voiceflow {' '.join(command)}")
    assert f"    voiceflow {' '.join(command)}" in text


def shared_options() -> set[str]:
    """The options that the page describes once for all commands."""
    return set(_OPTION.findall(section(PAGE.read_text(encoding="utf-8"), "Options of all commands")))
