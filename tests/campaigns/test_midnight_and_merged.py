"""Midnight as a time of day, in cells that have types; and merged cells of workbooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from openpyxl import Workbook

from tests.campaigns.reading import NOW, OPTIONS, calls_of, read, text_of, told
from tests.campaigns.workbooks import parquet
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.ivr.menu import Menu

ANA = "+6587654321"
MIDNIGHT = datetime.fromisoformat("2030-02-01 00:00")
SHOWS_A_TIME = ["yyyy-mm-dd hh:mm", "yyyy\\-mm\\-dd\\ h:mm", "m/d/yy h:mm", "[$-409]d mmm yyyy h:mm AM/PM;@"]
SHOWS_NONE = ["yyyy-mm-dd", "mm-dd-yy", 'd. mmm "sh" yyyy', "[Red]d/m/yy", "[$-hhs]d/m/yy"]


def saying(text: str) -> CampaignOptions:
    say = FlowTemplate.speaking(text)
    return replace(OPTIONS, template=say, voice_profile="en-US-JennyNeural", time_zone="Asia/Singapore", batch_id="b")


def dated(folder: Path, column: str, value: object, shown: str) -> Path:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["destination", column])
    sheet.append([ANA, value])
    sheet.cell(2, 2).number_format = shown
    book.save(path := folder / "visits.xlsx")
    return path


@pytest.mark.parametrize("shown", SHOWS_A_TIME)
def test_a_cell_that_shows_midnight_is_midnight(tmp_path: Path, shown: str) -> None:
    for column, options in (("valid_until", saying("Hello.")), ("not_before", saying("Hello."))):
        rows = read(dated(tmp_path, column, MIDNIGHT, shown), options)
        assert told(rows) == []
        assert getattr(calls_of(rows)[0], column) == datetime(2030, 1, 31, 16, tzinfo=UTC)
    for say, heard in [
        ("{{visit|time}}", "12:00 AM"),
        ("{{visit|date}} at {{visit|time}}", "February 1, 2030 at 12:00 AM"),
        ("{{visit}}", "2030-02-01"),
    ]:
        (row,) = read(dated(tmp_path, "visit", MIDNIGHT, shown), saying(say))
        assert [text_of(request) for request in calls_of([row])] == [heard]
    menu = Menu("ask", prompt="Press 1.", voice_profile="en-US-JennyNeural")
    menu.on("1", goto="At {{visit|time}}.")
    options = CampaignOptions(menu=menu, source="+6531234567", batch_id="b")
    campaign = CampaignRows(dated(tmp_path, "visit", MIDNIGHT, shown), options, now=NOW)
    (row,) = campaign
    assert campaign.later_texts(row)[0][1] == "At 12:00 AM."


@pytest.mark.parametrize("shown", SHOWS_NONE)
def test_a_cell_that_shows_a_day_alone_is_no_time(tmp_path: Path, shown: str) -> None:
    for value in (MIDNIGHT, date(2030, 2, 1)):
        ((_, column, _, message),) = told(read(dated(tmp_path, "valid_until", value, shown), saying("Hello.")))
        assert (column, message[:28]) == ("valid_until", "'2030-02-01' is not a time; ")
        ((_, column, _, message),) = told(read(dated(tmp_path, "visit", value, shown), saying("{{visit|time}}")))
        assert "'2030-02-01' is not a time of day" in message
    (row,) = read(dated(tmp_path, "visit", MIDNIGHT.replace(hour=9), shown), saying("{{visit|time}}"))
    assert [text_of(request) for request in calls_of([row])] == ["9:00 AM"], "a time that is there is not hidden"


def test_midnight_of_a_typed_time_is_a_time_where_one_is_asked_for(tmp_path: Path) -> None:
    row = {"destination": ANA, "valid_until": MIDNIGHT, "visit": MIDNIGHT}
    path = parquet(tmp_path, {name: [value] for name, value in row.items()})
    options = saying("{{visit|date}} at {{visit|time}}")
    for found in [*read(path, options), *CampaignRows([row], options, now=NOW)]:
        assert told([found]) == []
        (request,) = calls_of([found])
        assert text_of(request) == "February 1, 2030 at 12:00 AM"
        assert request.valid_until == datetime(2030, 1, 31, 16, tzinfo=UTC)
    for found in [*read(path, saying("{{visit}}")), *CampaignRows([row], saying("{{visit}}"), now=NOW)]:
        assert text_of(calls_of([found])[0]) == "2030-02-01"


def merged(folder: Path, rows: Sequence[Sequence[object]], *ranges: str) -> Path:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(list(row))
    for each in ranges:
        sheet.merge_cells(each)
    book.save(path := folder / "visits.xlsx")
    return path


def notes(path: Path, say: str = "{{ clinic or 'our clinic' }}") -> list[str]:
    campaign = CampaignRows(path, saying(say), now=NOW)
    assert len(list(campaign)) == 3
    return [found.message for found in campaign.closing_findings()]


def test_merged_cells_are_told_and_that_the_others_are_empty(tmp_path: Path) -> None:
    header = ["destination", "name", "clinic"]
    people = [header, *([f"+658765432{place}", "Ana", "North"] for place in range(3))]
    (note,) = notes(merged(tmp_path, people, "C2:C4"))
    assert note == (
        "1 range of cells is merged in the sheet Sheet: C2:C4 (clinic). Excel keeps the value in the first cell of a "
        "range alone, and the others are empty: their people hear what the text has for an empty cell, or their rows "
        "are bad. Unmerge the cells and fill the value into each"
    )
    several = notes(merged(tmp_path, people, "B2:C2", "C3:C4"))
    assert ["2 ranges" in each and "B2:C2 (name, clinic), C3:C4 (clinic)" in each for each in several] == [True]
    assert notes(merged(tmp_path, people)) == []
    assert notes(merged(tmp_path, people, "E2:F4")) == [], "columns that nobody reads"
    bad = told(read(merged(tmp_path, people, "C2:C4"), saying("{{clinic}}")))
    assert [column for _, column, _, _ in bad] == ["clinic"] * 2
