"""Every script of examples/ runs alone, in an empty directory, and says what its readers expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

SAYS = {
    "appointment.py": [
        "Ana: confirmed (completed after 1 call, pressed 1)", "Ben: moved (completed after 2 calls, pressed 2,1)",
        "Chen: confirmed (completed after 3 calls, pressed 1)", "Devi: called off (completed after 1 call, pressed 3)",
        "Eko: asked for us (completed after 1 call, pressed 2,9,2,2)",
        "Farah: no answer (unreached after 3 calls, pressed nothing)",
        "Gita: no answer (completed after 1 call, pressed 5)", "outcomes: 6 COMPLETED, 1 NO_ANSWER",
        "answers: 2 confirmed, 1 asked for us, 1 called off, 1 moved", "answered: 6 of 7",
    ],
    "on_call_alert.py": [
        "+6587654321 rang 1 times", "+6587654322 rang 1 times", "+6587654323 rang 1 times, and pressed 1",
        "+6587654324 rang 0 times",
    ],
    "order_ready.py": [
        "to +6587654321 is queued", "enqueued again: the same call", "is submitted; its session at 8x8 is ",
    ],
    "restaurant.py": [
        "hears: To book a table", "presses 1 and hears: For how many people?",
        "presses 44# and hears: We seat one to twelve.", "presses 4# and hears: Your table for 4 is booked.",
    ],
    "outcomes_stream.py": [
        "call.attempted: Customer 1 (BUSY), the call is queued",
        "call.ended: Customer 2 (NO_ANSWER), the call is unreached",
        "call.ended: Customer 1 (COMPLETED), the call is completed",
        "the wait for Customer 1 has ended: completed after 2 attempts",
    ],
}  # fmt: skip


def test_every_script_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_a_script_runs_alone(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if "[info " not in line]  # what it says, without the log
    assert len(lines) == len(SAYS[name])
    for line, expected in zip(lines, SAYS[name], strict=True):
        assert expected in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("order_ready.py", "With --for-real it calls the first number"),
    ],
)
def test_nobody_is_called_by_a_slip(name: str, message: str) -> None:
    command = [sys.executable, str(EXAMPLES / name), "--for-real"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert message in run.stderr
