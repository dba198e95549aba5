"""Each list of `cases` has the calls and findings that stand beside it there, in every form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns.blocks import Case, cases_of
from tests.campaigns.cases import FOLDER, judge

CASES = [(path.stem, case) for path in sorted(FOLDER.glob("*.txt")) for case in cases_of(path)]


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{stem}: {case.name}") for stem, case in CASES])
def test_a_list_gives_these_calls_and_findings(tmp_path: Path, case: Case) -> None:
    judge(case, tmp_path)
