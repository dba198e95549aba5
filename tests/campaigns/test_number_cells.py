"""Cells of numbers and keys: as the sheet shows them, the same in every form, and doubted where nobody means them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.styles import Font

from tests.campaigns.forms import READERS, TYPED, Reader, saying
from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, read, text_of, told
from tests.campaigns.workbooks import parquet
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import enqueue_file
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.numbers.reading import ParsedNumber, read_number

ANA, BEN = "+6587654321", "+6587654322"
HELLO = saying("Hello.")


def sheet(folder: Path, rows: Sequence[Sequence[object]], shown: Mapping[str, str]) -> Path:
    """A workbook whose cells have these formats."""
    book = Workbook()
    page = book.active
    assert page is not None
    for row in rows:
        page.append(list(row))
    for place, code in shown.items():
        page[place].number_format = code
    book.save(path := folder / "people.xlsx")
    return path


SHOWN = [
    # What the cell stores, its format, the country, and the number that the cell shows.
    (331123456, "0000 000000", "IT", "+390331123456"),
    (331123456, '"0"#########', "IT", "+390331123456"),
    (3.31e8, "0000000000", "IT", "+390331000000"),
    (331123456, "[Blue]0000\\ 000000", "IT", "+390331123456"),
    (6581234567, "+0", None, "+6581234567"),
    (6581234567, '"+"##\\ ####\\ ####', None, "+6581234567"),
    (81234567, '"+65 "0000-0000', None, "+6581234567"),
    ("81234567", '"+65 "@', None, "+6581234567"),
    (2025550143, "[<=9999999]###\\-####;\\(###\\)\\ ###\\-####", "US", "+12025550143"),
    (3012345678, "(0000) 0000000", "DE", "+493012345678"),
    (87654321, "0", "SG", ANA),
    (87654321, "#,##0", "SG", ANA),
]  # fmt: skip


def test_a_number_is_what_its_cell_shows(tmp_path: Path) -> None:
    for stored, code, country, number in SHOWN:
        path = sheet(tmp_path, [["destination"], [stored]], {"A2": code})
        rows = read(path, replace(HELLO, country=country))
        assert ([call.destination for call in calls_of(rows)], told(rows)) == ([number], []), (stored, code)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ('"K-"0000', "K-0042"),
        ("00\\-00", "00-42"),
        ("0000", "0042"),
        ('0" min"', "42"),
        ('0 "€"', "42"),
        ("[$€-407]00", "42"),
        ("0", "42"),
    ],
)
def test_a_code_is_spoken_as_its_cell_shows_it_and_a_quantity_as_a_number(
    tmp_path: Path, code: str, shown: str
) -> None:
    path = sheet(tmp_path, [["destination", "n"], [ANA, 42]], {"B2": code})
    assert [text_of(call) for call in calls_of(read(path, saying("{{n}}")))] == [shown]


def test_a_number_whose_last_digits_are_lost_is_bad_in_any_format(tmp_path: Path) -> None:
    ((_, column, _, message),) = told(read(sheet(tmp_path, [["destination"], [6.58765e9]], {"A2": "+0"}), HELLO))
    assert (column, "may have lost digits" in message) == ("destination", True)


@pytest.mark.parametrize("reader", READERS)
def test_a_zero_that_a_program_lost_is_missed_in_every_form(tmp_path: Path, reader: Reader) -> None:
    stored = "331123456" if reader not in TYPED else 331123456
    ((_, column, _, message),) = told(reader(tmp_path, {"destination": stored}, replace(HELLO, country="IT")))
    assert (column, "+39331123456 (IT) or +390331123456 (IT)" in message) == ("destination", True)


@pytest.mark.parametrize("reader", READERS)
def test_a_number_that_a_spreadsheet_computed_is_to_be_written_again(tmp_path: Path, reader: Reader) -> None:
    for stored in ("-81234502",) if reader not in TYPED else ("-81234502", -81234502, -81234502.0):
        ((_, column, _, message),) = told(reader(tmp_path, {"destination": stored}, replace(HELLO, country="SG")))
        assert (column, "took the number for a sum" in message, "remove" in message) == ("destination", True, False)


KEY = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")


def stored_key() -> object:
    """A column of Parquet with the key, as its 16 bytes."""
    import pyarrow as pa

    arrow: Any = pa
    return arrow.array([KEY.bytes], arrow.uuid())


def key_of(path: Path | Sequence[Mapping[str, object]]) -> str | None:
    (call,) = calls_of(open_campaign(path, replace(HELLO, batch_id="b"), now=NOW))
    return call.unique_key


def test_one_key_is_one_key_whichever_program_wrote_it(tmp_path: Path) -> None:
    columns = {"destination": [ANA], "unique_key": stored_key()}
    written = [str(KEY), str(KEY).upper(), f"{{{str(KEY).upper()}}}"]
    forms: list[Path | Sequence[Mapping[str, object]]] = [
        parquet(tmp_path, columns),
        *([{"destination": ANA, "unique_key": each}] for each in (*written, KEY)),
        *(file_of(tmp_path, f"destination,unique_key\n{ANA},{each}\n", f"{n}.csv") for n, each in enumerate(written)),
        file_of(tmp_path, json.dumps({"destination": ANA, "unique_key": written[1]}), "people.jsonl"),
    ]
    assert {key_of(each) for each in forms} == {str(KEY)}
    whole: list[Path | Sequence[Mapping[str, object]]] = [
        parquet(tmp_path, {"destination": [ANA], "unique_key": [42.0]}, "whole.parquet"),
        sheet(tmp_path, [["destination", "unique_key"], [ANA, 42]], {"B2": "0"}),
        *([{"destination": ANA, "unique_key": each}] for each in (42, 42.0, Decimal("42.00"), "42", "42.0")),
        *(file_of(tmp_path, f"destination,unique_key\n{ANA},{each}\n", f"{each}.csv") for each in ("42", "42.0")),
    ]
    assert {key_of(each) for each in whole} == {"42"}
    for code, shown in (('"K-"0000', "K-0042"), ('"K-"0', "K-42"), ("0000", "0042")):
        book = sheet(tmp_path, [["destination", "unique_key"], [ANA, 42]], {"B2": code})
        assert key_of(book) == key_of(file_of(tmp_path, f"destination,unique_key\n{ANA},{shown}\n")) == shown


@pytest.mark.anyio
async def test_a_person_with_one_key_in_two_spellings_is_called_once(tmp_path: Path, queue: CallQueue) -> None:
    csv = file_of(tmp_path, f"destination,name,unique_key\n{ANA},Ana,{str(KEY).upper()}\n")
    options = replace(OPTIONS, batch_id="b")
    assert (await enqueue_file(queue, csv, options, now=NOW)).enqueued == 1
    columns = {"destination": [ANA], "name": ["Ana"], "unique_key": stored_key()}
    again = await enqueue_file(queue, parquet(tmp_path, columns), options, now=NOW)
    assert (again.enqueued, again.duplicates) == (0, 1)
    flow = CallFlow.call(BEN, source="+6531234567").say("Hello.", voice_profile="en-US-JennyNeural")
    first, second = [
        await queue.enqueue(flow, unique_key=key) for key in (f"{{{uuid.UUID(int=7)}}}", str(uuid.UUID(int=7)))
    ]
    assert first.id == second.id
    assert [job.id for job in await queue.find(unique_key=str(uuid.UUID(int=7)).upper())] == [first.id]


PARTLY = CellRichText(TextBlock(InlineFont(strike=True), ANA), f" {BEN}")


def struck(folder: Path, *cells: object, lines: str = "") -> list[str]:
    """What is told of a row with these cells, of which those in the columns `lines` are struck through."""
    book = Workbook()
    page = book.active
    assert page is not None
    page.append(["destination", "name", "remark", "source"])
    page.append(list(cells))
    for column in lines:
        page[f"{column}2"].font = Font(strike=True)
    book.save(path := folder / "people.xlsx")
    return [message for *_, message in told(read(path)) if "is struck through in the sheet" in message]


def test_a_row_whose_person_is_struck_out_is_not_called_whatever_stands_beside(tmp_path: Path) -> None:
    assert len(struck(tmp_path, ANA, "Ana", "moved away", lines="AB")) == 1
    assert len(struck(tmp_path, ANA, "Ana", "moved away", lines="ABC")) == 1
    assert struck(tmp_path, ANA, "Ana", "moved away", lines="C") == []
    assert struck(tmp_path, ANA, "Ana", "moved away") == []
    half = CellRichText("Ana ", TextBlock(InlineFont(strike=True), "Tan"))
    plain = CellRichText("Ana ", TextBlock(InlineFont(strike=False, b=True), "Tan"))
    assert [len(struck(tmp_path, ANA, name, "x")) for name in (half, plain)] == [1, 0]
    assert len(struck(tmp_path, PARTLY, "Ana", "x")) == 1
    assert len(struck(tmp_path, ANA, lines="A")) == 1, "all that there is"
    options = replace(OPTIONS, leave_out_rows=((2, 2),))
    assert [row.is_left_out for row in read(tmp_path / "people.xlsx", options)] == [True]


def closing(rows: Sequence[Mapping[str, object]]) -> list[tuple[int | None, str]]:
    campaign = open_campaign(rows, replace(OPTIONS, batch_id="b"), now=NOW)
    _ = list(campaign)
    return [(found.row, found.message) for found in campaign.closing_findings()]


def test_the_own_number_in_a_list_is_told() -> None:
    people = [{"destination": number, "name": "Ana"} for number in (ANA, "+65 3123 4567", BEN)]
    assert [(row, "2 rows" in told, "that the calls come from" in told) for row, told in closing(people)] == [
        (2, False, True)
    ]
    mexico = [{"destination": "+5215512345678", "name": "Ana", "source": "+525512345678"}]
    assert "that the calls come from" in closing(mexico)[0][1]
    assert closing(people[:1]) == []


def test_ten_numbers_that_count_up_by_one_are_told_once() -> None:
    def people(steps: Sequence[int]) -> list[Mapping[str, object]]:
        return [{"destination": f"+{6581230000 + step}", "name": "Ana"} for step in steps]

    ((row, message),) = closing(people([700, *range(14), 900, *range(300, 312)]))
    assert (row, message.startswith("10 rows in a row have numbers that count up by one, from row 2 on")) == (11, True)
    for steps in (range(9), range(0, 40, 2), range(20, 0, -1), [*range(6), 99, *range(6, 12)]):
        assert closing(people(list(steps))) == []


def test_the_kind_of_a_number_is_told_for_the_person_and_not_for_the_source() -> None:
    free: ParsedNumber = read_number("+18002345678")
    assert "is a toll-free number in US" in free.messages[0]
    rows = open_campaign([{"destination": ANA, "name": "Ana", "source": free}], replace(OPTIONS, batch_id="b"), now=NOW)
    assert [row.findings for row in rows] == [()]
    (row,) = open_campaign([{"destination": free, "name": "Ana"}], replace(OPTIONS, batch_id="b"), now=NOW)
    assert [(found.column, found.is_error) for found in row.findings] == [("destination", False)]
    calls = [{"action": "makeCall", "params": {"source": free, "destination": number}} for number in (ANA, free)]
    assert CallFlow.parse({"callflow": calls}).problems() == ()


def test_the_codes_of_a_number_may_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    columns = {"destination": "Phone", "calling_code": "Code", "area_code": "DDD"}
    options = replace(OPTIONS, batch_id="b", columns=columns, country="BR")
    for reader, code in product(READERS, ["55", "", "+55"]):
        cells = {"Phone": "91234-5678", "Code": code, "DDD": "11", "name": "Ana"}
        assert [call.destination for call in calls_of(reader(tmp_path, cells, options))] == ["+5511912345678"]
    for row, column in (({"Code": "Brasil", "DDD": 11}, "Code"), ({"Code": 55, "DDD": "SP"}, "DDD")):
        given: dict[str, object] = {"Phone": "91234-5678", "name": "Ana", **row}
        assert [each[1] for each in told(READERS[-1](tmp_path, given, options))] == [column]
    with pytest.raises(InvalidInputError, match="one area code"):
        replace(options, columns={**columns, "destination": ["Phone", "Home"]})
