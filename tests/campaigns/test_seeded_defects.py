"""The package, broken on purpose in one line: each of the defects in seeded_defects.txt turns tests red.

An entry there begins with what a user would see. Then come the file of the package, the tests that find it, and the
text that is replaced (-) with what replaces it (+).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "voiceflow_worker"
EVERYDAY = "not slow and not alone and not crash"


class Defect(NamedTuple):
    """What a user would see of it, and the replacement in a file of the package that the `tests` find."""

    seen: str
    file: str
    tests: list[str]
    old: str
    new: str


def defects() -> Iterator[Defect]:
    for entry in (Path(__file__).parent / "seeded_defects.txt").read_text(encoding="utf-8").split("\n\n"):
        seen, place, old, new = entry.strip("\n").split("\n")
        file, *tests = place.split()
        yield Defect(seen, f"{PACKAGE}/{file}", [f"tests/{each}" for each in tests], old[1:], new[1:])


DEFECTS = list(defects())


def test_each_defect_replaces_a_text_that_is_there_once() -> None:
    for each in DEFECTS:
        assert (ROOT / each.file).read_text(encoding="utf-8").count(each.old) == 1, (each.seen, each.file, each.old)
        assert all((ROOT / path).is_file() for path in each.tests), each.tests
    assert len({each.seen for each in DEFECTS}) == len(DEFECTS) >= 40


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package as it is compiled, with the tests beside it."""
    folder = tmp_path_factory.mktemp("copied")
    shutil.copytree(ROOT / PACKAGE, folder / PACKAGE)
    for each in ("tests", "examples", "docs", "pyproject.toml", "airflow_provider"):
        (folder / each).symlink_to(ROOT / each)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("defect", [pytest.param(each, id=each.seen) for each in DEFECTS])
def test_the_defect_is_found(copied: Path, defect: Defect) -> None:
    broken, whole = copied / defect.file, ROOT / defect.file
    broken.write_text(whole.read_text(encoding="utf-8").replace(defect.old, defect.new), encoding="utf-8")
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-m", EVERYDAY, "-p", "no:cacheprovider", *defect.tests],
            cwd=copied,
            env={**os.environ, "PYTHONPATH": str(copied), "TEST_EACH_CASE": "yes"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.copy2(whole, broken)
    found = (run.returncode, "\nFAILED " in run.stdout)  # not by an error of a fixture
    assert found == (pytest.ExitCode.TESTS_FAILED, True), f"{defect.seen}: {run.stdout[-2000:]}{run.stderr[-2000:]}"
