"""A field that is defined in one place, with its reader, is there in every interface."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.new_field import HELP

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
REFUSED = "'nobody' is no name of a caller"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    # In a process of its own: the options of commands, for one, are made when they are imported.
    run = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.new_field"],
        cwd=tmp_path_factory.mktemp("new"),
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def test_commands_have_it_as_an_option(told: dict[str, Any]) -> None:
    good, bad = told["command"]
    assert good.startswith("0: ")
    assert bad.startswith("2: ")
    assert f"--caller-name: {REFUSED}" in bad
    assert told["options"] == f"- `--caller-name NAME`: {HELP}"


def test_toml_files_and_programs_have_it_by_name(told: dict[str, Any]) -> None:
    assert told["toml"] == ["+6531234567", f"nobody.toml: caller-name: {REFUSED}"]
    assert told["python"] == ["+6531234567", f"caller_name: {REFUSED}"]


def test_the_http_api_has_it_in_its_schemas_and_reads_it(told: dict[str, Any]) -> None:
    assert told["http"]["schemas"] == [{"type": ["string", "null"], "description": HELP}] * 2
    (bad, good, campaign) = told["http"]["answers"]
    assert (bad[0], good[0], campaign[0]) == (422, 201, 422)
    assert REFUSED in bad[1]
    assert REFUSED in campaign[1]


def test_the_form_of_the_console_has_it(told: dict[str, Any]) -> None:
    form, refused = told["page"]
    assert 'name="caller_name"' in form
    assert "Name of the caller: &#39;nobody&#39; is no name of a caller" in refused


def test_the_docs_have_it(told: dict[str, Any]) -> None:
    assert f"- `caller_name` (call, campaign, escalation, schedule): {HELP}" in told["docs"]
