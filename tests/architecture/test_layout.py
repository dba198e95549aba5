"""The rules of the house that a machine can check: where things stand, what they are called, what they import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for package in ("voiceflow_worker", "airflow_provider") for path in sorted((ROOT / package).rglob("*.py"))
]
WRITTEN = [path for path in (ROOT / "examples", ROOT / "tests") for path in sorted(path.rglob("*.py"))] + SOURCES

LONGEST_FILE = 400
NAMES_THAT_SAY_NOTHING = {"base", "common", "helper", "helpers", "manager", "misc", "types", "util", "utils"}


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_a_file_holds_one_thing(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{place(path)} has {lines} lines: it holds more than one thing; divide it by role"


@pytest.mark.parametrize("path", WRITTEN, ids=place)
def test_a_file_is_named_by_its_role(path: Path) -> None:
    for name in (path.stem, path.parent.name):
        words = set(name.split("_"))
        assert not words & NAMES_THAT_SAY_NOTHING, f"{place(path)}: {name!r} does not say what is in it"


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path != ROOT / "voiceflow_worker" / "settings.py"], ids=place
)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    readers = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in name.name for name in node.names))
    ]
    assert not readers, (
        f"{place(path)} reads the environment in lines {readers}; voiceflow_worker/settings.py does that"
    )


def test_imports_go_one_way() -> None:
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
