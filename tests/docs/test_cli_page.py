"""The page of the command line is that of the program, and the help is read in one look."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.docs.command_page import FIELDS_PAGE, command_page, commands, fields_page
from tests.docs.pages import DOCS, ROOT
from voiceflow_worker.cli.program import description, program, sections

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
GROUPS = ("calls", "suppress", "ivr", "account")
"""Words that only begin the name of a command."""


def test_the_page_of_the_fields_is_what_their_definition_says() -> None:
    assert FIELDS_PAGE.read_text(encoding="utf-8") == fields_page(), "write it again: ./dev fields"


def test_the_page_of_the_commands_has_each_command_and_each_option_once() -> None:
    page = command_page()
    assert re.findall(r"^## (voiceflow .+)$", page, re.MULTILINE) == [path for path, _ in commands(program())]
    assert page.count("- `--force`: Replace FILE if it exists.\n") == 1
    assert re.findall(r"^- `(--as NAME)`", page, re.MULTILINE) == ["--as NAME"]


def test_each_command_has_one_line_in_a_panel_of_the_help() -> None:
    code = "import sys; from voiceflow_worker.cli.program import run; sys.exit(run(['--help']))"
    environment = {"COLUMNS": "80", "NO_COLOR": "1", "PATH": ""}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert re.findall(r"^╭─ (.+?) ─", told, re.MULTILINE) == ["Send", "Watch", "Steer", "People", "Set up"]
    lines = re.findall(r"^│ (\S*) ", told, re.MULTILINE)
    assert "" not in lines, "a summary takes a second line"
    assert {path.split()[1] for path, _ in commands(program())} == {name for name in lines if not name.startswith("-")}


def test_each_command_has_a_summary_of_one_line_and_an_example() -> None:
    for path, app in commands(program()):
        function = app.default_command
        assert callable(function)
        assert len(description(function).partition("\n")[0]) <= 60
        assert f"    {path}" in f"    {sections(function)['Examples']}"


def test_every_command_and_option_that_a_page_names_exists() -> None:
    known = {
        path.removeprefix("voiceflow "): {name for each in app.assemble_argument_collection() for name in each.names}
        for path, app in commands(program())
    }
    text = "\n".join(re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8")) for page in PAGES)
    for line in re.findall(r"(?:^|[`&(] ?|^ +)voiceflow ([a-z][^`\n|#&]*)", text, re.MULTILINE):
        two = " ".join(line.split()[:2])
        path = two if two in known else line.split()[0]
        if path in GROUPS:
            continue
        assert path in known, f"there is no command {path!r}: {line}"
        unknown = set(re.findall(r"(?<=\s)--[a-z][a-z0-9-]*", line)) - known[path]
        assert not unknown, f"voiceflow {path} has no option {', '.join(unknown)}: {line}"
