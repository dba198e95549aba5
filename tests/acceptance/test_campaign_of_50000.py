"""A campaign from its file to its report: docs/console.md, in short. The whole one: `./dev campaign`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS

PAGE = DOCS / "console.md"
PICTURES = {"ended"}


@pytest.mark.alone
@pytest.mark.timeout(1500)
def test_a_campaign_goes_from_its_file_to_a_report_that_is_the_ledger(tmp_path: Path) -> None:
    from tests.acceptance.campaign.run import SHORT, campaign  # and with it a browser's driver

    folder = tmp_path / "campaign"
    folder.mkdir()
    with campaign(folder, tmp_path / "pictures", SHORT) as run:
        run.run(tmp_path / "profile")
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == PICTURES


def test_the_page_shows_its_picture() -> None:
    shown = re.findall(r"\(images/campaign/(\w+)\.webp\)", PAGE.read_text(encoding="utf-8"))
    assert set(shown) == PICTURES == {path.stem for path in (DOCS / "images" / "campaign").iterdir()}
