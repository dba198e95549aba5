"""The programs of examples/one_transaction run alone, each in its own database, and call whom they promised a call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import DATABASE, PostgresServer

PROGRAMS = Path(__file__).parents[2] / "examples" / "one_transaction"

SAYS = {
    "fastapi_and_sqlalchemy.py": ["order of +6587654321: 200", "order of +6587654322: 409", "+6587654321 was called"],
}


def test_every_program_is_run_here() -> None:
    assert {path.name for path in PROGRAMS.glob("*.py")} == set(SAYS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_a_program_calls_who_was_promised_a_call(name: str, postgres_server: PostgresServer, tmp_path: Path) -> None:
    database = name.removesuffix(".py")
    postgres_server.ask(f"CREATE DATABASE {database}")
    url = postgres_server.url().replace(f"/{DATABASE}", f"/{database}")
    command = [sys.executable, "-W", "error", str(PROGRAMS / name), url]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    said = run.stdout.splitlines()
    assert [line for line in SAYS[name] if line not in said] == []
    assert "+6587654322 was called" not in said
    assert list(tmp_path.iterdir()) == []
