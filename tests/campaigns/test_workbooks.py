"""Excel workbooks as campaign files."""

from __future__ import annotations

import io
import os
from collections import deque
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from tests.campaigns.reading import NOW, Row, calls_of, peak, read_all, refused, text_of, told
from tests.campaigns.reading import WITH_CODES as OPTIONS
from tests.campaigns.reading import read_codes as read
from tests.campaigns.workbooks import workbook
from tests.support.started import enqueue_file
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.lists.input_file import InputFile, standard_input
from voiceflow_worker.campaigns.lists.rows import FileKind, cell_text
from voiceflow_worker.campaigns.lists.source import kind_of, open_list
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
        assert "cell 4 holds '7', and its column has no name" in message


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
    assert "has several sheets with rows: People, Second. Name one: `sheet: People`" in refused(path)
    assert spoken(path, "second") == [("+6587654322", "Hello Ben.")]
    assert "has no sheet 'Third'; its sheets: People, Second, Empty" in refused(path, CampaignOptions(sheet="Third"))
    assert spoken(hide(path, "Second")) == [("+6587654321", "Hello Ana.")]


@pytest.mark.anyio
async def test_rejects_of_a_workbook_are_a_table_that_is_read_again(tmp_path: Path, queue: CallQueue) -> None:
    rows = [(*HEADER, "Größe"), ("6587654321", "Ana", "M"), ("12", "Bär", "-1"), ("13", "Cem", "")]
    path = workbook(tmp_path, rows)
    rejects = tmp_path / "bad.csv"
    report = await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True, rejects=rejects)
    assert (report.enqueued, report.rejected) == (1, 2)
    again = open_list(InputFile(rejects))
    assert (again.kind, again.header) == (FileKind.CSV, ("reason", *rows[0]))
    assert [raw.cells[1:] for raw in again] == rows[2:]
    report = await enqueue_file(queue, rejects, replace(OPTIONS, batch_id="visits"), now=NOW, rejects=rejects)
    assert report.rejected == 2
    assert [len(raw.cells) for raw in open_list(InputFile(rejects))] == [4, 4], "one reason a row"


@pytest.mark.anyio
async def test_rejects_of_one_kind_do_not_get_the_name_of_another(tmp_path: Path, queue: CallQueue) -> None:
    path = workbook(tmp_path, [HEADER, (12, "Ben")])
    with pytest.raises(CampaignFileError, match=r"rejects are written as \.csv; give them that extension$"):
        await enqueue_file(queue, path, OPTIONS, now=NOW, rejects=tmp_path / "bad.xlsx")


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
        pytest.raises(CampaignFileError, match="standard input has no name to use as a batch id"),
    ):
        open_campaign(file, OPTIONS, now=NOW)
