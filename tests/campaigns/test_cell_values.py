"""What the value of a cell means, and what is told about it, and numbers and keys: the same in every form."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.styles import Font

from tests.campaigns.forms import (
    ANA,
    Reader,
    errors_of,
    from_mappings,
    spoken,
)
from tests.campaigns.reading import NOW, OPTIONS, Row, file_of, read_all, saying
from tests.campaigns.workbooks import changed, workbook
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.enqueue import enqueue_file, enqueue_rows
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import render_template
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.flows.callflow import CallFlow

LATER = Menu("ask", prompt="Press 1.", voice_profile="v")
LATER.on("1", goto="Hello {{name}}.")
IN_MENU = replace(OPTIONS, template=None, menu=LATER, batch_id="b")
"""The options for a text that is spoken later."""


def heard(reader: Reader, folder: Path, say: str, **cells: object) -> object:
    """What the person of a row with these cells hears."""
    (text,) = spoken(reader(folder, {"destination": ANA, **cells}, saying(say)))
    return text


def test_a_decimal_has_no_zeros_at_its_end(tmp_path: Path) -> None:
    for value in (Decimal("25.00"), Decimal(25), Decimal("2.5E+1")):
        assert heard(from_mappings, tmp_path, "{{room}}, {{room|digits}}", room=value) == "25, 2, 5"
    for value, text in ((Decimal("1250.5000"), "1250.50"), (Decimal("12.3450"), "12.345")):
        assert heard(from_mappings, tmp_path, "{{paid}}", paid=value) == text


def test_words_that_programs_write_for_nothing_count_as_empty_in_later_texts() -> None:
    for word in ("None", "nan", "NaN", "-nan", "NaT", "<NA>", "null", "NULL", "(null)", "<nil>", "undefined", r"\N"):
        assert render_template("Hello {{name}}.", {"name": word}) == "Hello ."
        assert render_template("{% if name %}Dear{% else %}Hello{% endif %} {{name}}.", {"name": word}) == "Hello ."
        with pytest.raises(InvalidInputError, match=r"\{\{name\}\} has no value"):
            render_template("Hello {{name|upper}}.", {"name": word})


class NAType:
    """A stand-in for the missing value of pandas, which cannot be compared."""

    def __ne__(self, other: object) -> object:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = object.__hash__


def test_a_typed_missing_value_of_a_program_counts_as_empty(tmp_path: Path) -> None:
    for value in (None, float("nan"), Decimal("NaN"), Decimal("sNaN"), NAType()):
        cells = {"name": value, "not_before": value, "priority": value}
        (error,) = errors_of(from_mappings, tmp_path, saying("Hello {{name}}."), **cells)
        assert error.startswith("name: is empty,")
        assert heard(from_mappings, tmp_path, "Hello.", **cells) == "Hello."


def test_the_data_of_a_single_call_is_spoken_alike() -> None:
    assert render_template("Room {{room}}, {{room|digits(language='en')}}.", {"room": 25.0}) == "Room 25, 2, 5."
    assert render_template("{% if vip %}{{vip}}{% endif %}", {"vip": True}) == "true"
    for vip, said in ((True, "1"), ("TRUE", "1"), (False, "0")):
        assert render_template("{{ 1 if vip == 'true' else 0 }}", {"vip": vip}) == said
    with pytest.raises(InvalidInputError, match="more than 15 digits"):
        render_template("Room {{room}}.", {"room": 1e15})


# -- cells of numbers and keys: as the sheet shows them, and doubted where nobody means them ---------------------------

BEN = "+6587654322"
HELLO = saying("Hello.")


def sheet(folder: Path, rows: Sequence[Sequence[object]], shown: Mapping[str, str]) -> Path:
    """A workbook whose cells have these formats."""

    def formatted(page: Any) -> None:
        for place, code in shown.items():
            page[place].number_format = code

    return changed(workbook(folder, rows), formatted)


KEY = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")


def key_of(given: Path | Sequence[Row]) -> str | None:
    (call,) = read_all(given, HELLO).calls
    return call.unique_key


def keyed(folder: Path, key: str) -> Path:
    return file_of(folder, f"destination,unique_key\n{ANA},{key}\n", f"{len(key)}.csv")


def test_one_key_is_one_key_whichever_program_wrote_it(tmp_path: Path) -> None:
    def row(key: object) -> list[Row]:
        return [{"destination": ANA, "unique_key": key}]

    table: list[list[object]] = [["destination", "unique_key"], [ANA, 42]]
    texts = (str(KEY), str(KEY).upper(), f"{{{str(KEY).upper()}}}")
    forms: list[Path | Sequence[Row]] = [
        *map(row, (*texts, KEY)), file_of(tmp_path, json.dumps(row(texts[1])[0]), "people.jsonl"),
    ]  # fmt: skip
    assert {*map(key_of, forms), *(key_of(keyed(tmp_path, each)) for each in texts)} == {str(KEY)}
    whole: list[Path | Sequence[Row]] = [
        sheet(tmp_path, table, {"B2": "0"}), *map(row, (42, 42.0, Decimal("42.00"), "42", "42.0")),
        *(keyed(tmp_path, each) for each in ("42", "42.0")),
    ]  # fmt: skip
    assert {key_of(each) for each in whole} == {"42"}
    assert "Format the column as text" in read_all(sheet(tmp_path, table, {"B2": "0000"}), HELLO).errors[0]


@pytest.mark.anyio
async def test_a_person_with_one_key_in_two_spellings_is_called_once(tmp_path: Path, queue: CallQueue) -> None:
    csv = file_of(tmp_path, f"destination,name,unique_key\n{ANA},Ana,{str(KEY).upper()}\n")
    options = replace(OPTIONS, batch_id="b")
    assert (await enqueue_file(queue, csv, options, now=NOW)).enqueued == 1
    again = await enqueue_rows(queue, [{"destination": ANA, "name": "Ana", "unique_key": KEY}], options, now=NOW)
    assert (again.enqueued, again.duplicates) == (0, 1)
    flow = CallFlow.call(BEN, source="+6531234567").say("Hello.", voice_profile="en-US-JennyNeural")
    first, second = [
        await queue.enqueue(flow, unique_key=key) for key in (f"{{{uuid.UUID(int=7)}}}", str(uuid.UUID(int=7)))
    ]
    assert first.id == second.id
    assert [job.id for job in await queue.find(unique_key=str(uuid.UUID(int=7)).upper())] == [first.id]


PARTLY = CellRichText(TextBlock(InlineFont(strike=True), ANA), f" {BEN}")


def struck(folder: Path, *cells: object, lines: str = "") -> str:
    """Return what becomes of a row with these cells, of which those in the columns `lines` are struck through."""

    def strike(page: Any) -> None:
        for column in lines:
            page[f"{column}2"].font = Font(strike=True)

    path = changed(workbook(folder, [["destination", "name", "remark", "source"], cells]), strike)
    (read,) = read_all(path).rows
    return "bad" if read.is_bad else "left out" if read.is_left_out else "called"


def test_a_row_whose_person_is_struck_out_is_not_called_whatever_stands_beside(tmp_path: Path) -> None:
    for cells, lines, found in (
        ((ANA, "Ana", "moved away"), "AB", "bad"), ((ANA, "Ana", "moved away"), "ABC", "left out"),
        ((ANA, "Ana", "gone"), "C", "bad"), ((ANA, "Ana", "moved away"), "", "called"),
        ((PARTLY, "Ana", "x"), "", "bad"),
        ((ANA,), "A", "left out"), ((ANA, "Ana"), "AB", "left out"),
    ):  # fmt: skip
        assert struck(tmp_path, *cells, lines=lines) == found, (cells, lines)
        numbers = [ANA, BEN] if cells[0] is PARTLY else [ANA]
        assert [*read_number_file(tmp_path / "visits.xlsx").numbers] == numbers, "in a suppression list, each counts"
