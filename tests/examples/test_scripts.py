"""Every script of examples/ runs alone, in an empty directory, and says what its readers expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

SAYS = {
    "order_ready.py": [
        "to +6587654321 is queued",
        "asked for again: the same call",
        "is submitted; 8x8 calls it ",
    ],
    "outcomes_in_one_process.py": [
        "Customer 1: completed (COMPLETED)",
        "Customer 2: unreached (BUSY)",
        "Customer 3: unreached (NO_ANSWER)",
    ],
}


def test_every_script_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_a_script_runs_alone(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == len(SAYS[name])
    for line, expected in zip(lines, SAYS[name], strict=True):
        assert expected in line
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_called_by_a_slip() -> None:
    command = [sys.executable, str(EXAMPLES / "order_ready.py"), "--for-real"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "With --for-real it phones the number given" in run.stderr


def test_the_readme_names_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({path.name})" in text for path in EXAMPLES.iterdir() if path.is_file() and path.name != "README.md")
