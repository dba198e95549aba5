from __future__ import annotations

import shlex

import pytest

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
