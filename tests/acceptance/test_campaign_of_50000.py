"""A campaign from its file to its report: docs/console.md, in short. The whole one: `./dev campaign`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks

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
    typed = {as_printed(each.command) for each in run.desk.typed}
    assert typed == {as_printed(command) for command in commands_of_the_page()}


def test_the_page_shows_its_picture() -> None:
    shown = re.findall(r"\(images/campaign/(\w+)\.webp\)", PAGE.read_text(encoding="utf-8"))
    assert set(shown) == PICTURES == {path.stem for path in (DOCS / "images" / "campaign").iterdir()}


def commands_of_the_page() -> list[str]:
    """The commands of its blocks, a background mark and line breaks taken away."""
    text = "".join(block.text for block in blocks(PAGE, language="sh"))
    lines = text.replace("\\\n", " ").splitlines()
    return [line.removesuffix("&").strip() for line in lines if line.startswith("voiceflow ")]


def as_printed(command: str) -> str:
    """A command without what differs with the size of the campaign and the time of day."""
    for option, value in (
        ("window", r"\d\d:\d\d-\d\d:\d\d"),
        ("rate", r"\d+"),
        ("speed", r"\d+"),
        ("redial-after", r"\w+"),
    ):
        command = re.sub(rf"--{option} {value}", f"--{option} …", command)
    return " ".join(command.replace('"', "'").split())
