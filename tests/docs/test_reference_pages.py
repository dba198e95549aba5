from __future__ import annotations

import importlib
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import voiceflow_worker
from tests.docs.command_page import command_page
from tests.docs.pages import DOCS, section
from voiceflow_worker import errors

PAGE = DOCS / "reference.md"


def test_the_page_names_everything_that_the_public_api_has() -> None:
    text = section(PAGE.read_text(encoding="utf-8"), "All names")
    rows = "\n".join(re.findall(r"^- (`.*?): ", text, re.MULTILINE))
    assert sorted(re.findall(r"`(\w+)`", rows)) == sorted(dir(voiceflow_worker))


def test_each_error_stands_in_the_line_of_the_error_that_catches_it() -> None:
    """By the nearest base that begins a line."""
    text = section(PAGE.read_text(encoding="utf-8"), "Errors")
    lines = re.findall(r"^- `(\w+)` \([^)]*\):\s+((?:.|\n  )+)", text, re.MULTILINE)
    rows = {name: group for group, names in lines for name in re.findall(r"`(\w+)`", names)}
    declared = {name: each for name, each in vars(errors).items() if _is_error(each)}
    groups = {group for group, _ in lines}
    assert rows.keys() | groups == declared.keys()
    for name, group in rows.items():
        assert next(base.__name__ for base in declared[name].__mro__[1:] if base.__name__ in groups) == group, name
        assert declared[name].__doc__, name


def _is_error(each: object) -> bool:
    return isinstance(each, type) and issubclass(each, errors.VoiceflowError)


def test_the_site_finds_every_public_module_and_page() -> None:
    """Signatures come from the source: only the modules are named, and the navigation has every page."""
    text = PAGE.read_text(encoding="utf-8")
    for module in re.findall(r"automodule:: (\S+)", text):
        assert importlib.import_module(module).__doc__, module
    site = runpy.run_path(str(DOCS / "conf.py"))
    listed = [page for pages in site["CHAPTERS"].values() for page in pages]
    there = [page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")]
    assert sorted([*listed, "index"]) == sorted([*there, "cli"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    source, made = shutil.copytree(DOCS, tmp_path / "source"), tmp_path / "made"
    (source / "cli.md").write_text(command_page(), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(source), str(made)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "enqueue_many" in (made / "reference.html").read_text(encoding="utf-8")
