"""The pages in a real browser: a batch redialled by outcome, its report downloaded, and calls found by their time."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from openpyxl import load_workbook
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.stage import Stage
from tests.support.waiting import wait_until
from tests.webhooks.browser.reader import Reader
from tests.webhooks.signing_in import READERS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a browser on a busy machine

BATCH = "/ui/batches/campaign?queue=default"
BUSY, DOUBTFUL, DONE = "+6580000000", "+6580000001", "+6580000002"
ZONE = "Asia/Tokyo"


def sent(on: Stage) -> None:
    """Batch campaign: one call was busy, one is in doubt, one was answered."""
    on.order("faults", {"fault": "reset", "destination": DOUBTFUL})
    on.order("script", {"destination": DOUBTFUL, "drop": True})
    on.order("script", {"destination": BUSY, "outcome": "BUSY", "times": 1})
    on.order("script", {"destination": BUSY, "outcome": "COMPLETED"})
    on.order("script", {"destination": DONE, "outcome": "COMPLETED"})
    on.campaign(3)
    with on.worker():
        wait_until(lambda: on.states() == {"unreached": 1, "in_doubt": 1, "completed": 1}, lambda: f"{on.states()}")


def test_a_batch_is_redialled_by_outcome_and_by_keys_alone(on: Stage, reader: Reader) -> None:
    sent(on)
    reader.sign_in(on.receiver)
    reader.open(on.receiver + BATCH)
    reader.tab_to("Redial")
    reader.keys(Keys.ENTER)
    reader.sees("busy: 1 call", "No phone yet. The next page says how many phones will ring")
    reader.tab_to("outcome")
    reader.keys(Keys.SPACE)
    reader.tab_to("Count them")
    reader.keys(Keys.ENTER)
    reader.sees("Redial 1 call of batch campaign?", "its phone rings once more", "Calls in doubt")
    reader.tab_to("note")
    reader.keys("asked for it")
    reader.tab_to("Redial 1 call")
    reader.keys(Keys.ENTER)
    reader.sees("1 call of batch campaign will be called again")
    with on.worker():
        wait_until(lambda: on.states() == {"completed": 2, "in_doubt": 1}, lambda: f"{on.states()}")
    assert sorted(on.rang()) == [BUSY, BUSY, DOUBTFUL, DONE], "the doubt is not called again"
    (call,) = on.calls("--destination", BUSY)
    assert "asked for it (by Mary Tan)" in str(call["notes"])
    assert reader.console() == []


def is_whole(file: Path) -> bool:
    """Whether a download is there: Chromium makes an empty file first, and renames the whole one to its name."""
    return file.exists() and file.stat().st_size > 0 and not list(file.parent.glob("*.crdownload"))


def test_a_reader_downloads_the_report_in_each_form(on: Stage, reader: Reader, tmp_path: Path) -> None:
    sent(on)
    folder = tmp_path / "downloads"
    folder.mkdir()
    reader.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    reader.sign_in(on.receiver, secret=READERS, name="Ana")
    reader.open(on.receiver + BATCH)
    files = {"Excel": folder / "campaign.xlsx", "HTML": folder / "campaign.html", "CSV": folder / "campaign.csv"}
    for label, file in files.items():
        reader.link(label).click()
        wait_until(lambda file=file: is_whole(file), lambda file=file: f"{file.name} in {list(folder.iterdir())}")  # type: ignore[misc]
    with files["CSV"].open(encoding="utf-8") as opened:
        rows = {row["destination"]: (row["outcome"], row["data.name"]) for row in csv.DictReader(opened)}
    assert rows == {BUSY: ("BUSY", "Customer 0"), DOUBTFUL: ("", "Customer 1"), DONE: ("COMPLETED", "Customer 2")}
    assert load_workbook(files["Excel"])["Calls"]["A4"].value == DONE
    assert DONE in files["HTML"].read_text(encoding="utf-8")
    reader.open(files["HTML"].as_uri())
    assert reader.script("return document.scripts.length") == 0
    assert reader.console() == []


def test_times_are_typed_in_the_zone_of_the_reader(on: Stage, reader: Reader) -> None:
    on.campaign(3)
    (made, *_) = (datetime.fromisoformat(str(call["created_at"])) for call in on.calls())
    reader.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ZONE})
    reader.sign_in(on.receiver)
    there = made.astimezone(ZoneInfo(ZONE))
    for begin, calls in ((there - timedelta(minutes=1), 3), (there + timedelta(minutes=2), 0)):
        reader.open(f"{on.receiver}/ui/calls")
        for name, at in (("from", begin), ("until", begin + timedelta(hours=1))):
            field = reader.driver.find_element(By.NAME, name)
            reader.script("arguments[0].value = arguments[1]", field, f"{at:%Y-%m-%dT%H:%M}")
        reader.press("Filter")
        assert f"zone={ZONE.replace('/', '%2F')}" in reader.driver.current_url
        reader.sees("Changed from, until (Asia/Tokyo)")
        assert len(reader.driver.find_elements(By.CSS_SELECTOR, "td.first")) == calls
    # An address that somebody in another zone has sent shows the same times in one's own.
    reader.open(f"{on.receiver}/ui/calls?zone=UTC&from={made.astimezone(UTC):%Y-%m-%dT%H:%M}")
    field = reader.driver.find_element(By.NAME, "from")
    assert reader.script("return arguments[0].value", field) == f"{there:%Y-%m-%dT%H:%M}"
    assert reader.console() == []
