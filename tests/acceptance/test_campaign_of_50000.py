"""A campaign from its file to its report, in short. The whole one, of 50,000 rows: `./dev campaign`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.campaign.run import SHORT, campaign

PICTURES = {"overview", "batch", "hold", "suppression", "doubts", "ended", "report"}


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(1500)
def test_a_campaign_goes_from_its_file_to_a_report_that_is_the_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    folder.mkdir()
    with campaign(folder, tmp_path / "pictures", SHORT) as run:
        run.run(tmp_path / "profile")
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == PICTURES
