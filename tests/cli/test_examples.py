from __future__ import annotations

import shlex

import pytest

from tests.cli.running import Program
from tests.cli.test_program import COMMANDS
from voiceflow_worker.cli.program import fitted

EXAMPLES = """Examples:
  voiceflow calls resolve default.01JB3W8Z5Q7X9V2K4M6N8P0R2T --not-placed --note "8x8 support says so, case 123"
  VOICEFLOW_WEBHOOK_SECRET="Bearer 2f8c..." voiceflow serve --register https://calls.example.com/webhooks/8x8
  voiceflow check people.csv --json | jq -r 'select(.severity == "error") | .message'
  voiceflow demo"""


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_a_shell_reads_broken_examples_as_they_were(width: int) -> None:
    broken = fitted(EXAMPLES, width=width).replace("\\\n", "")
    assert [shlex.split(line) for line in broken.splitlines()] == [shlex.split(line) for line in EXAMPLES.splitlines()]


@pytest.mark.parametrize("width", [60, 80])
def test_broken_examples_fit(width: int) -> None:
    assert all(len(line) <= width for line in fitted(EXAMPLES, width=width).splitlines())


def test_what_fits_is_left_alone() -> None:
    assert fitted(EXAMPLES, width=200) == EXAMPLES


@pytest.mark.parametrize("columns", ["60", "80"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_breaks_no_example_in_two(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, command: list[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    out = voiceflow(*command, "--help").out
    lines = [line.rstrip() for line in out[out.index("Example") :].splitlines()[1:]]
    # Each line begins a command, or goes on with one whose line before says so.
    for before, line in zip(["", *lines], lines, strict=False):
        assert before.endswith("\\") == line.startswith("    "), out
