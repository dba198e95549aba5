from __future__ import annotations

import re
import subprocess
import sys
from functools import lru_cache

import pytest

from tests.docs.pages import DOCS, section

PAGE = DOCS / "cli.md"
SHARED = {"--help", "--version"}

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_COMMAND = re.compile(r"^│ (?P<name>[a-z]+) {2,}\S", re.MULTILINE)


@lru_cache
def help_of(*command: str) -> str:
    """What `--help` prints, in a process of its own and without a terminal's colours."""
    run = subprocess.run(
        [sys.executable, "-m", "voiceflow_worker", *command, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"COLUMNS": "120", "NO_COLOR": "1", "PATH": ""},
    )
    return run.stdout


def commands() -> list[tuple[str, ...]]:
    """Every command that the help names, groups opened."""
    found: list[tuple[str, ...]] = []
    for name in _COMMAND.findall(help_of()):
        inner = _COMMAND.findall(help_of(name)) if re.search(r"Usage: voiceflow \w+ COMMAND", help_of(name)) else []
        found += [(name, each) for each in inner] or [(name,)]
    return found


def options_of(text: str) -> set[str]:
    """The options in the panels of a help text; those in its sentences and examples are left out."""
    rows = re.findall(r"^│ +(?:\* +)?((?:--[a-z][a-z0-9-]* )+)", text, re.MULTILINE)
    return {option for row in rows for option in _OPTION.findall(row)}


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_page_tells_every_option_of_a_command(command: tuple[str, ...]) -> None:
    text = section(PAGE.read_text(encoding="utf-8"), f"voiceflow {' '.join(command)}")
    missing = options_of(help_of(*command)) - SHARED - set(_OPTION.findall(text)) - shared_options()
    assert not missing, f"the section does not tell of {', '.join(sorted(missing))}"


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_page_tells_of_no_option_that_a_command_does_not_have(command: tuple[str, ...]) -> None:
    text = section(PAGE.read_text(encoding="utf-8"), f"voiceflow {' '.join(command)}")
    told = {option for row in re.findall(r"^\| (`--.*?) \|", text, re.MULTILINE) for option in _OPTION.findall(row)}
    strange = told - options_of(help_of(*command))
    assert not strange, f"{', '.join(sorted(strange))}: not in its --help"


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_each_command_has_an_example_and_its_exit_codes(command: tuple[str, ...]) -> None:
    text = section(PAGE.read_text(encoding="utf-8"), f"voiceflow {' '.join(command)}")
    assert f"    voiceflow {' '.join(command)}" in text
    assert "Exit" in text


def shared_options() -> set[str]:
    """What the page tells once for all commands."""
    return set(_OPTION.findall(section(PAGE.read_text(encoding="utf-8"), "Options of all commands")))
