"""Excel workbooks as campaign files."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from tests.campaigns.reading import NOW, Row, calls_of, file_of, peak, read_all, refused, text_of, told
from tests.campaigns.reading import WITH_CODES as OPTIONS
from tests.campaigns.reading import read_codes as read
from tests.campaigns.workbooks import workbook
from tests.support.started import enqueue_file
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.files import input_file, spreadsheet
from voiceflow_worker.campaigns.files.cells import cell_text
from voiceflow_worker.campaigns.files.formats import kind_of, open_source
from voiceflow_worker.campaigns.files.input_file import InputFile, standard_input
from voiceflow_worker.campaigns.files.rows import FileKind
from voiceflow_worker.campaigns.files.workbook_writer import written_workbook
from voiceflow_worker.errors import CampaignFileError

HEADER = ("destination", "name")
PEOPLE = (HEADER, ("+6587654321", "Ana"))

local = datetime.fromisoformat


def spoken(path: Path, sheet: str | None = None) -> list[tuple[str, object]]:
    reading = read_all(path, replace(OPTIONS, sheet=sheet))
    assert reading.errors == []
    return [(call.destination, text_of(call)) for call in reading.calls]


def test_a_cell_far_to_the_right_and_a_day_of_a_book_that_counts_from_1904_are_read(tmp_path: Path) -> None:
    path = workbook(tmp_path, [("destination", *(f"c{place}" for place in range(40)), "name")])
    book = load_workbook(path)
    book.epoch = CALENDAR_MAC_1904
    book["People"]["A2"], book["People"]["AP2"] = "+6587654321", date(2030, 1, 31)
    book.save(path)
    assert spoken(path) == [("+6587654321", "Hello 2030-01-31.")]


def test_a_value_under_no_header_makes_its_row_bad(tmp_path: Path) -> None:
    people = [HEADER, ("+6587654321", "Ana"), ("+6587654322", "Ben", None, 7)]
    for header in (HEADER, (*HEADER, "Note")):
        path = workbook(tmp_path, [header, *people[1:]])
        ((row, column, *_, message),) = told(read(path))
        assert (row, column) == (3, None)
        assert "the row has '7' in its cell 4, but that column has no name" in message


def test_findings_name_the_row_of_the_sheet(tmp_path: Path) -> None:
    rows = read(workbook(tmp_path, [(), HEADER, (), ("+6587654321", "Ana"), (None, " "), ("none", "Ben")]))
    assert [row for row, *_ in told(rows)] == [6]
    assert [row.raw.number for row in rows] == [4, 6]


def hide(path: Path, *sheets: str) -> Path:
    book = load_workbook(path)
    for name in sheets:
        book[name].sheet_state = "hidden"
    book.save(path)
    return path


def test_a_workbook_needs_the_name_of_a_sheet_unless_the_others_are_empty_or_hidden(tmp_path: Path) -> None:
    path = workbook(tmp_path, [HEADER, (6587654321, "Ana")], Second=[HEADER, (6587654322, "Ben")], Empty=[()])
    assert "has several sheets with rows: People, Second; name the sheet to read" in refused(path)
    assert spoken(path, "second") == [("+6587654322", "Hello Ben.")]
    assert "has no sheet 'Third'; its sheets: People, Second, Empty" in refused(path, CampaignOptions(sheet="Third"))
    assert spoken(hide(path, "Second")) == [("+6587654321", "Hello Ana.")]


def repacked(folder: Path, change: Callable[[str, bytes], bytes], rows: Sequence[Sequence[object]] = PEOPLE) -> Path:
    """A workbook of which each part is changed so."""
    path = folder / "changed.xlsx"
    with zipfile.ZipFile(workbook(folder, rows)) as good, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bad:
        for name in good.namelist():
            bad.writestr(name, change(name, good.read(name)))
    return path


def test_a_row_number_that_excel_does_not_have_is_refused(tmp_path: Path) -> None:
    def far(_: str, part: bytes) -> bytes:
        return part.replace(b'<row r="2"', b'<row r="2000000000"').replace(b'"A2"', b'"A9"')

    path = repacked(tmp_path, far)
    assert "has a row number above 1048576 in the sheet People" in refused(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = workbook(tmp_path, [HEADER])
    with zipfile.ZipFile(path, "a") as bad:
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
    "cells": ("xl/worksheets/sheet1.xml", b"</row></sheetData>", b"<c/>" * 10_000 + b"</row><row>"),
    "sheets": ("xl/workbook.xml", b"</sheets>", b"<sheet/>"),
}


@pytest.mark.parametrize(("part", "end", "more"), FILLED.values(), ids=FILLED.keys())
def test_a_small_workbook_with_more_than_its_size_lets_expect_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, end: bytes, more: bytes
) -> None:
    monkeypatch.setattr(spreadsheet, "_LEAST_BUDGET", 10_000)
    times = 150_000 // max(more.count(b"<c/>"), 1)
    path = repacked(tmp_path, lambda name, text: text.replace(end, more * times + end) if name == part else text)
    size = path.stat().st_size
    said = refused(path)
    assert f"has more than {10_000 + 10 * size} cells, formats and texts by the part {part}" in said
    assert f"in a file of {size} bytes" in said


@pytest.mark.anyio
@pytest.mark.parametrize("written", ["xlsx", "csv", ""])
async def test_rejects_are_of_the_kind_that_was_read_and_are_read_again(
    tmp_path: Path, queue: CallQueue, written: str
) -> None:
    rows = [(*HEADER, "Größe"), ("6587654321", "Ana", "M"), ("12", "Bär", "-1"), ("13", "Cem", "")]
    path = workbook(tmp_path, rows)
    rejects = tmp_path / f"bad.{written}".rstrip(".")
    report = await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True, rejects=rejects)
    assert (report.enqueued, report.rejected) == (1, 2)
    again = open_source(InputFile(rejects))
    assert (again.kind, again.header) == (FileKind(written or "xlsx"), ("reason", *rows[0]))
    assert [raw.cells[1:] for raw in again] == rows[2:]
    report = await enqueue_file(queue, rejects, replace(OPTIONS, batch_id="visits"), now=NOW, rejects=rejects)
    assert report.rejected == 2
    assert [len(raw.cells) for raw in open_source(InputFile(rejects))] == [4, 4], "one reason a row"


def test_a_text_is_read_from_a_workbook_as_it_was_written_and_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path, texts = tmp_path / "out.xlsx", ["=1+1", "'-2", "_x000D_", "a\x07_xFFFF_b", "\uffff", " a  b ", "y" * 32767]
    with written_workbook(path) as book:
        sheet = book.sheet("Rows", HEADER, widths=[18])
        for text in texts:
            sheet.append(["+6587654321", text])
    assert [raw.cells for raw in open_source(InputFile(path))] == [("+6587654321", text) for text in texts]
    with pytest.raises(ZeroDivisionError), written_workbook(tmp_path / "bad.xlsx") as book:
        book.sheet("Rows", HEADER, widths=[18]).append(1 / zero for zero in [0])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.anyio
async def test_rejects_of_one_kind_do_not_get_the_name_of_another(tmp_path: Path, queue: CallQueue) -> None:
    for path, name, hint in (
        (workbook(tmp_path, [HEADER, (12, "Ben")]), "bad.gz", ".xlsx or .csv"),
        (file_of(tmp_path, "destination,name\n12,Ben\n"), "bad.xlsx", ".csv"),
    ):
        with pytest.raises(CampaignFileError, match=f"in the format of the file; give them the extension {hint}$"):
            await enqueue_file(queue, path, OPTIONS, now=NOW, rejects=tmp_path / name)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    options = replace(OPTIONS, template=FlowTemplate.speaking("Hello {{n}}."))

    def of(count: int) -> int:
        path = workbook(tmp_path, [("destination", "n"), *((6580000000 + n, n) for n in range(count))])
        return peak(lambda: deque(open_campaign(path, options, now=NOW), maxlen=0))

    of(10)  # what is loaded and cached once
    small, large = of(1000), of(3000)
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
async def test_all_sheets_are_one_list_and_rows_are_told_with_their_sheet(tmp_path: Path, queue: CallQueue) -> None:
    north = [HEADER, ("+6587654322", "Ben"), ("+6587654321", "Ana"), ("none", "Dan")]
    path = workbook(tmp_path, [*PEOPLE, ("nobody", "Eve")], Empty=[], North=north)
    options = replace(OPTIONS, sheet="*", batch_id="b")
    report = await enqueue_file(queue, path, options, skip_bad=True, by="Li")
    found = [(each.as_json()["file"], each.as_json()["row"], each.message) for each in report.findings]
    assert (report.enqueued, report.duplicates, report.rejected, report.rows) == (2, 1, 2, 5)
    assert [each[:2] for each in found] == [
        (f"{path}, sheet People", 3), (f"{path}, sheet North", 3), (f"{path}, sheet North", 4),
    ]  # fmt: skip
    assert str(report.findings[0]).startswith(f"{path}:People!3:destination: ")
    assert found[1][2].startswith("row North!3 requests the same call as row People!2")
    assert {job.destination for job in await queue.find()} == {"+6587654321", "+6587654322"}
    assert (await enqueue_file(queue, path, options, skip_bad=True)).enqueued == 0


@pytest.mark.parametrize(("asked", "more"), [(None, {}), ("*", {}), ("*", {"South": [HEADER, ("+6587654323", "Cy")]})])
def test_a_hidden_sheet_of_the_same_list_is_told_and_not_called(
    tmp_path: Path, asked: str | None, more: dict[str, Any]
) -> None:
    north = [HEADER, ("+6587654322", "Ben")]
    path = workbook(tmp_path, PEOPLE, North=north, Cities=[("Berlin",), ("Paris",)], **more)
    reading = read_all(hide(path, "North", "Cities"), replace(OPTIONS, sheet=asked))
    assert {call.destination for call in reading.calls} == {"+6587654321", *(["+6587654323"] if more else [])}
    hidden = [each.message for each in reading.closing if "hidden" in each.message]
    assert [each.split(",")[0] for each in hidden] == ["the sheet North is hidden"]


def test_sheets_that_are_not_one_list_are_refused(tmp_path: Path) -> None:
    options = replace(OPTIONS, sheet="*")
    for other, why in (
        ([("destination", "visit"), ("+6587654322", "x")], "the sheet North has the columns destination, visit, and"),
        ([("Notes",), ("Call Ana",)], "sheet North has no column destination"),
        ([HEADER[::-1], ("Ben", "+6587654322")], "give both the same header, or name one sheet"),
    ):
        assert why in refused(workbook(tmp_path, PEOPLE, North=other), options)
    assert len(calls_of(read(workbook(tmp_path, PEOPLE), options))) == 1
    assert "only workbooks have sheets" in refused(file_of(tmp_path, "destination,name\n+6587654321,Ana\n"), options)


# -- gzip, standard input and rows of a program --------------------------------------------------------------------

TABLE = "destination,name\n+6587654321,Ana\nnone,Ben\n"
LINES = '{"destination": "+6587654321", "name": "Ana"}\n{"destination": "none", "name": "Ben"}\n'


def test_numbers_that_a_data_frame_made_floats_are_read() -> None:
    decimals = [Decimal("6587654321.00"), Decimal("8765432.10"), Decimal("NaN")]
    for numbers in ([6587654321.0, float("nan"), 1.5], decimals):
        people: list[Row] = [{"destination": number, "name": b"Ana"} for number in numbers]
        rows = list(open_campaign(people, replace(OPTIONS, batch_id="b"), now=NOW))
        assert [(call.destination, text_of(call)) for call in calls_of(rows)] == [("+6587654321", "Hello Ana.")]
        assert [(row, column) for row, column, *_ in told(rows)] == [(2, "destination"), (3, "destination")]


@pytest.mark.parametrize(("name", "content"), [("visits.csv.gz", TABLE), ("visits.jsonl.gz", LINES)])
def test_a_packed_file_is_read_with_its_rows_and_its_batch(tmp_path: Path, name: str, content: str) -> None:
    campaign = open_campaign(file_of(tmp_path, gzip.compress(content.encode()), name), OPTIONS, now=NOW)
    rows = list(campaign)
    assert campaign.batch_id == "visits"
    assert list(map(text_of, calls_of(rows))) == ["Hello Ana."]
    assert [(row, column) for row, column, *_ in told(rows)] == [(rows[1].raw.number, "destination")]


@pytest.mark.slow
def test_a_packed_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "_SUSPICIOUS_BYTES", 1_000_000)
    bomb = gzip.compress(b"destination,name\n" + b"\n" * 3_000_000)
    assert "unpacks to more than 200 times its size" in refused(file_of(tmp_path, bomb, "bomb.csv.gz"))


def contents(folder: Path) -> dict[FileKind, bytes]:
    header, row = ("destination", "name"), ("+6587654321", "Ana")
    return {
        FileKind.CSV: TABLE.encode(),
        FileKind.JSON_LINES: LINES.encode(),
        FileKind.EXCEL: workbook(folder, [header, row]).read_bytes(),
    }


@pytest.mark.parametrize("kind", [FileKind.CSV, FileKind.JSON_LINES, FileKind.EXCEL])
def test_standard_input_is_read_in_any_format(tmp_path: Path, kind: FileKind) -> None:
    with standard_input(io.BytesIO(contents(tmp_path)[kind])) as file:
        assert kind_of(file) is kind
        rows = list(open_campaign(file, replace(OPTIONS, batch_id="b"), now=NOW))
    assert text_of(calls_of(rows)[0]) == "Hello Ana."


@pytest.mark.parametrize("name", ["63", "people.jsonl"])
def test_a_pipe_is_refused_before_a_row_of_it_is_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(CampaignFileError, match="is a pipe, whose rows can be read only once: give it as standard inp"):
        open_campaign(tmp_path / name, now=NOW)


def test_standard_input_needs_a_batch(tmp_path: Path) -> None:
    with (
        standard_input(io.BytesIO(TABLE.encode())) as file,
        pytest.raises(CampaignFileError, match="standard input has no name to use as a batch id; name the batch"),
    ):
        open_campaign(file, OPTIONS, now=NOW)


def _one_long_row(folder: Path) -> Path:
    path = workbook(folder, [("destination", "name"), ("+6587654321", "Ana")])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    row = b'<row r="3">' + b"<c><v>1</v></c>" * 4_000_000 + b"</row></sheetData>"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, part in parts.items():
            book.writestr(name, part.replace(b"</sheetData>", row) if "worksheets/" in name else part)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
@pytest.mark.slow
def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = _one_long_row(tmp_path)
    command = f"""
from pathlib import Path
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.errors import CampaignFileError
try:
    list(open_source(InputFile(Path({str(path)!r}))))
except CampaignFileError as error:
    used = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(int(used.split()[1]) // 1000, error)
"""
    ended = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=100, check=True)
    megabytes, _, said = ended.stdout.partition(" ")
    assert "delete the columns" in said
    assert int(megabytes) < 700
