"""Excel workbooks as campaign files."""

from __future__ import annotations

import tracemalloc
import zipfile
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from tests.campaigns.reading import NOW, calls_of, file_of, flow_of, refused, text_of, told
from tests.campaigns.reading import WITH_CODES as OPTIONS
from tests.campaigns.reading import read_codes as read
from tests.campaigns.workbooks import parquet, workbook
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import enqueue_file
from voiceflow_worker.campaigns.files import spreadsheet
from voiceflow_worker.campaigns.files.cells import cell_text
from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import FileKind
from voiceflow_worker.errors import CampaignFileError, InvalidInputError

HEADER = ("destination", "name")
local = datetime.fromisoformat


def spoken(path: Path, sheet: str | None = None) -> list[object]:
    rows = read(path, replace(OPTIONS, sheet=sheet))
    assert told(rows) == []
    return [(flow_of(request).destination, text_of(request)) for request in calls_of(rows)]


@pytest.mark.parametrize("number", [6587654321, 6587654321.0, "+6587654321", "6587654321", " +65 8765 4321 "])
def test_a_number_is_read_however_the_cell_holds_it(tmp_path: Path, number: object) -> None:
    assert spoken(workbook(tmp_path, [HEADER, (number, "Ana")])) == [("+6587654321", "Hello Ana.")]


def test_a_typed_cell_is_the_text_that_people_would_have_typed(tmp_path: Path) -> None:
    for value, text in [
        (12, "12"),
        (12.0, "12"),
        (12.5, "12.5"),
        (0.1 + 0.2, "0.3"),
        (1e-7, "0.0000001"),
        (True, "true"),
        (False, "false"),
        (date(2030, 1, 31), "2030-01-31"),
        (local("2030-01-31 09:30"), "2030-01-31 09:30"),
        (local("2030-01-31 09:30:05"), "2030-01-31 09:30:05"),
        (time(14, 5), "14:05"),
        (timedelta(hours=26, minutes=30), "26:30"),
        ("007", "007"),
    ]:
        assert spoken(workbook(tmp_path, [HEADER, ("+6587654321", value)])) == [("+6587654321", f"Hello {text}.")]


def test_a_damaged_number_is_one_bad_row(tmp_path: Path) -> None:
    for value, sentence in [
        ("6.58765E+09", "6.58765E+09"),
        (6587650000, "ends in zeros, as if read from 6.58765E+09: a spreadsheet may have lost digits"),
        (447911000000.0, "ends in zeros, as if read from 4.47911E+11"),
        (date(2030, 1, 31), "holds 2030-01-31, which is not a phone number; format the column"),
        (True, "holds True, which is not a phone number"),
        (1234567890123456, "but Excel keeps only 15; write it as text"),
        (1.5e16, "15 digits"),
        ("#N/A", "holds the error #N/A of a formula; correct it in the workbook"),
        (6587654321.5, "holds 6587654321.5, which is not a phone number"),
        (None, "is missing"),
    ]:
        rows = read(workbook(tmp_path, [HEADER, (value, "Ana"), ("+6587654322", "Ben")]))
        ((row, column, _, message),) = told(rows)
        assert (row, column) == (2, "destination")
        assert sentence in message
        assert len(calls_of(rows)) == 1


def test_a_cell_far_to_the_right_and_a_day_of_a_book_that_counts_from_1904_are_read(tmp_path: Path) -> None:
    path = workbook(tmp_path, [("destination", *(f"c{place}" for place in range(40)), "name")])
    book = load_workbook(path)
    book.epoch = CALENDAR_MAC_1904
    book["People"]["A2"], book["People"]["AP2"] = "+6587654321", date(2030, 1, 31)
    book.save(path)
    assert spoken(path) == [("+6587654321", "Hello 2030-01-31.")]


def test_findings_name_the_row_of_the_sheet(tmp_path: Path) -> None:
    rows = read(workbook(tmp_path, [(), HEADER, (), ("+6587654321", "Ana"), (None, " "), ("none", "Ben")]))
    assert [row for row, *_ in told(rows)] == [6]
    assert [row.raw.number for row in rows] == [4, 6]


def test_a_workbook_needs_the_name_of_a_sheet_unless_the_others_are_empty_or_hidden(
    tmp_path: Path,
) -> None:
    path = workbook(tmp_path, [HEADER, (6587654321, "Ana")], Second=[HEADER, (6587654322, "Ben")], Empty=[()])
    assert "has several sheets with rows: People, Second; name the sheet to read" in refused(path)
    assert spoken(path, "second") == [("+6587654322", "Hello Ben.")]
    assert "has no sheet 'Third'; its sheets: People, Second, Empty" in refused(path, CampaignOptions(sheet="Third"))
    book = load_workbook(path)
    book["Second"].sheet_state = "hidden"
    book.save(path)
    assert spoken(path) == [("+6587654321", "Hello Ana.")]


def test_a_row_number_that_excel_does_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "far.xlsx"
    with zipfile.ZipFile(workbook(tmp_path, [HEADER, (6587654321, "Ana")])) as good, zipfile.ZipFile(path, "w") as bad:
        for part in good.namelist():
            bad.writestr(part, good.read(part).replace(b'<row r="2"', b'<row r="2000000000"').replace(b'"A2"', b'"A9"'))
    assert "has a row number above 1048576 in the sheet People" in refused(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(workbook(tmp_path, [HEADER])) as good, zipfile.ZipFile(path, "w") as bad:
        for part in good.namelist():
            bad.writestr(part, good.read(part))
        with bad.open("xl/worksheets/sheet9.xml", "w") as member:
            for _ in range(150):
                member.write(bytes(1_000_000))
        # Stored as if packed: only the directory of the archive is looked at.
        bad.getinfo("xl/worksheets/sheet9.xml").compress_size = 100_000
        bad.filelist[-1].compress_type = zipfile.ZIP_DEFLATED
    sentence = "unpacks to 150000000 bytes, more than 200 times its packed size"
    assert f"xl/worksheets/sheet9.xml in {path} {sentence}" in refused(path)


FILLED = {
    "formats": ("xl/styles.xml", b"</cellXfs>", b'<xf numFmtId="0"/>'),
    "merged ranges": ("xl/worksheets/sheet1.xml", b"</sheetData>", b'<mergeCell ref="A1:B1"/>'),
    "cells": ("xl/worksheets/sheet1.xml", b"</row></sheetData>", b"<c/>" * 10_000 + b"</row><row>"),
    "sheets": ("xl/workbook.xml", b"</sheets>", b"<sheet/>"),
}


@pytest.mark.parametrize(("part", "end", "more"), FILLED.values(), ids=FILLED.keys())
def test_a_small_workbook_with_more_than_its_size_lets_expect_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, end: bytes, more: bytes
) -> None:
    monkeypatch.setattr(spreadsheet, "_LEAST_BUDGET", 10_000)
    monkeypatch.setattr(spreadsheet, "_MOST_MERGED", 10_000)
    path = tmp_path / "bomb.xlsx"
    times = 150_000 // max(more.count(b"<c/>"), 1)
    with (
        zipfile.ZipFile(workbook(tmp_path, [HEADER, ("+6587654321", "Ana")])) as good,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bad,
    ):
        for name in good.namelist():
            text = good.read(name)
            bad.writestr(name, text.replace(end, more * times + end) if name == part else text)
    size = path.stat().st_size
    said = refused(path)
    if "mergeCell" in more.decode():
        assert "has more than 10000 merged ranges of cells in the sheet People" in said
    else:
        assert f"has more than {10_000 + 10 * size} cells, formats and texts by the part {part}" in said
        assert f"in a file of {size} bytes" in said


@pytest.mark.anyio
@pytest.mark.parametrize(("read", "written"), [("xlsx", "xlsx"), ("xlsx", "csv"), ("xlsx", ""), ("parquet", "parquet")])
async def test_rejects_are_of_the_kind_that_was_read_and_are_read_again(
    tmp_path: Path, queue: CallQueue, read: str, written: str
) -> None:
    rows = [(*HEADER, "Größe"), ("6587654321", "Ana", "M"), ("12", "Bär", "-1"), ("13", "Cem", "")]
    columns = {name: cells for name, *cells in zip(*rows, strict=True)}
    path = workbook(tmp_path, rows) if read == "xlsx" else parquet(tmp_path, columns)
    rejects = tmp_path / f"bad.{written}".rstrip(".")
    report = await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True, rejects=rejects)
    assert (report.enqueued, report.rejected) == (1, 2)
    again = open_source(InputFile(rejects))
    assert (again.kind, again.header) == (FileKind(written or read), ("reason", *rows[0]))
    assert [raw.cells[1:] for raw in again] == rows[2:]
    report = await enqueue_file(queue, rejects, replace(OPTIONS, batch_id="visits"), now=NOW, rejects=rejects)
    assert report.rejected == 2
    assert [len(raw.cells) for raw in open_source(InputFile(rejects))] == [4, 4], "one reason a row"


@pytest.mark.anyio
async def test_rejects_of_one_kind_do_not_get_the_name_of_another(tmp_path: Path, queue: CallQueue) -> None:
    for path, name, hint in (
        (workbook(tmp_path, [HEADER, (12, "Ben")]), "bad.parquet", ".xlsx or .csv"),
        (file_of(tmp_path, "destination,name\n12,Ben\n"), "bad.xlsx", ".csv"),
    ):
        with pytest.raises(CampaignFileError, match=f"in the format of the file; give them the extension {hint}$"):
            await enqueue_file(queue, path, OPTIONS, now=NOW, rejects=tmp_path / name)


@pytest.mark.anyio
@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    options = replace(OPTIONS, template=FlowTemplate.speaking("Hello {{n}}."))

    def peak(count: int) -> int:
        path = workbook(tmp_path, [("destination", "n"), *((6580000000 + n, n) for n in range(count))])
        tracemalloc.start()
        try:
            for _ in open_campaign(path, options, now=NOW):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is loaded and cached once
    small, large = peak(1000), peak(3000)
    # About 350 bytes a row are the keys by which a repeated call is found; a row that is kept takes thousands.
    assert (large - small) / 2000 < 1000


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e14, max_value=1e14))
def test_a_number_and_its_text_agree_to_15_digits(value: float) -> None:
    text = cell_text(value)
    assert "e" not in text.lower()
    assert float(text) == pytest.approx(value, rel=1e-14, abs=1e-300)


@given(st.datetimes(min_value=local("1901-01-01"), max_value=local("2200-01-01")))
def test_a_time_and_its_text_agree(value: datetime) -> None:
    shown = value.replace(microsecond=value.microsecond // 1000 * 1000)
    assert datetime.fromisoformat(cell_text(shown)) == shown


@pytest.mark.anyio
async def test_all_sheets_are_one_list_and_rows_are_told_with_their_sheet(tmp_path: Path) -> None:
    north = [HEADER, ("+6587654322", "Ben"), ("+6587654321", "Ana"), ("none", "Dan")]
    path = workbook(tmp_path, [HEADER, ("+6587654321", "Ana"), ("nobody", "Eve")], Empty=[], North=north)
    options = replace(OPTIONS, sheet="*", batch_id="b")
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        report = await enqueue_file(queue, path, options, skip_bad=True, by="Li")
        found = [(each.as_json()["file"], each.as_json()["row"], each.message) for each in report.findings]
        assert (report.enqueued, report.duplicates, report.rejected, report.rows) == (2, 1, 2, 5)
        assert [each[:2] for each in found] == [
            (f"{path}, sheet People", 3), (f"{path}, sheet North", 3), (f"{path}, sheet North", 4),
        ]  # fmt: skip
        assert str(report.findings[0]).startswith(f"{path}:3 of sheet People:destination: ")
        assert found[1][2].startswith("row 3 of sheet North requests the same call as row 2 of sheet People")
        assert {job.destination for job in await queue.find()} == {"+6587654321", "+6587654322"}
        assert (await enqueue_file(queue, path, options, skip_bad=True)).enqueued == 0


@pytest.mark.parametrize(("asked", "more"), [(None, {}), ("*", {}), ("*", {"South": [HEADER, ("+6587654323", "Cy")]})])
def test_a_hidden_sheet_of_the_same_list_is_told_and_not_called(
    tmp_path: Path, asked: str | None, more: dict[str, Any]
) -> None:
    people, north = [HEADER, ("+6587654321", "Ana")], [HEADER, ("+6587654322", "Ben")]
    path = workbook(tmp_path, people, North=north, Cities=[("Berlin",), ("Paris",)], **more)
    book = load_workbook(path)
    for name in ("North", "Cities"):
        book[name].sheet_state = "hidden"
    book.save(path)
    campaign = open_campaign(path, replace(OPTIONS, sheet=asked), now=NOW)
    numbers = {row.call.destination for row in campaign if row.call is not None}
    assert numbers == {"+6587654321", *(["+6587654323"] if more else [])}
    hidden = [each.message for each in campaign.closing_findings() if "hidden" in each.message]
    assert [each.split(",")[0] for each in hidden] == ["the sheet North is hidden"]


def test_sheets_that_are_not_one_list_are_refused(tmp_path: Path) -> None:
    options = replace(OPTIONS, sheet="*")
    people = [HEADER, ("+6587654321", "Ana")]
    for other, why in (
        ([("destination", "visit"), ("+6587654322", "x")], "the sheet North has the columns destination, visit, and"),
        ([("Notes",), ("Call Ana",)], "sheet North has no column destination"),
        ([HEADER[::-1], ("Ben", "+6587654322")], "give both the same header, or name one sheet"),
    ):
        assert why in refused(workbook(tmp_path, people, North=other), options)
    assert len(calls_of(read(workbook(tmp_path, people), options))) == 1
    with pytest.raises(InvalidInputError, match="leave_out_rows names rows of one sheet"):
        read(workbook(tmp_path, people), replace(options, leave_out_rows=((2, 2),)))
    table = file_of(tmp_path, "destination,name\n+6587654321,Ana\n")
    assert "only workbooks have sheets" in refused(table, options)
