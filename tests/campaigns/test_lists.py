"""Files as ordinary programs write them: read as they are, or refused with a sentence, and none read wrongly."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from openpyxl import load_workbook
from openpyxl.styles import Font

from tests.campaigns.blocks import Case, cases_of
from tests.campaigns.cases import SAID
from tests.campaigns.reading import NOW, OPTIONS, file_of, read, read_all, refused, saying, text_of, told
from tests.campaigns.workbooks import changed, workbook
from voiceflow_worker import CallQueue, Campaign
from voiceflow_worker.campaigns.enqueue import check_file, enqueue_file
from voiceflow_worker.campaigns.file_preview import preview_list
from voiceflow_worker.campaigns.lists import input_file
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError

EXPORTS = list(cases_of(Path(__file__).parent / "exports.txt"))
HEADER = ("destination", "name")


@pytest.mark.parametrize("case", [pytest.param(each, id=each.name) for each in EXPORTS])
def test_an_export_is_read_as_it_is_or_refused_with_a_sentence(tmp_path: Path, case: Case) -> None:
    fields = dict(case.fields)
    content = "\n".join([*case.lines, ""]).encode(fields.pop("bytes", "utf-8"))
    path, sentence = file_of(tmp_path, content, fields.pop("file")), fields.pop("refused", None)
    options = Campaign.of({**SAID, **fields}, now=NOW).options
    if sentence is not None:
        assert sentence in refused(path, options)
        return
    reading = read_all(path, options)
    calls = [f"= {call.destination} {text_of(call)}" for call in reading.calls]
    errors = [each[2:] for each in case.told if each.startswith("! ")]
    if any("says by its name" in each for each in errors):  # an error of the whole list
        calls = []
    assert calls == [each for each in case.told if each.startswith("= ")]
    assert [part in error for part, error in zip(errors, reading.errors, strict=True)] == [True] * len(errors)


# -- encodings ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("place", [1, 2, 1000, 3000])
async def test_one_byte_that_is_no_utf_8_refuses_the_list_with_its_row(
    tmp_path: Path, place: int, queue: CallQueue
) -> None:
    rows = [f"+65{81000000 + row},{'Jörg' if row == place else 'Ana'}" for row in range(1, 3702)]
    path = file_of(tmp_path, "\n".join(["destination,name", *rows, ""]).encode("latin-1"))
    with pytest.raises(CampaignFileError, match=rf"line {place + 1}: the byte 0xF6 is not UTF-8.*--encoding cp1252"):
        await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True)
    assert not await queue.find(limit=1)
    if place == 1:
        assert (await enqueue_file(queue, path, replace(OPTIONS, encoding="cp1252"), now=NOW)).enqueued == 3701


def test_utf_16_with_a_byte_order_mark_is_read_and_any_other_file_is_none(tmp_path: Path) -> None:
    table = "destination\tname\n+6587654321\tZoë\n"
    for encoding in ("utf-16", "utf-8-sig", "utf-8"):
        assert read_all(file_of(tmp_path, table.encode(encoding))).heard == ["Hello Zoë."], encoding
    assert "NUL character" in refused(file_of(tmp_path, table.encode("utf-16-le")[2:]))
    assert "is no encoding" in refused(file_of(tmp_path, table), replace(OPTIONS, encoding="windows"))
    assert "is not ascii" in refused(file_of(tmp_path, table), replace(OPTIONS, encoding="ascii"))
    lines = file_of(tmp_path, '{"destination": "+6587654321", "name": "Ana"}', "a.jsonl")
    assert "is no CSV file" in refused(lines, replace(OPTIONS, encoding="cp1252"))


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of(tmp_path, "destination,name\n+6587654321," + "x" * 1_000_001 + "\n")
    assert "line 2 has more than 1,000,000 characters" in refused(path)
    monkeypatch.setattr("voiceflow_worker.campaigns.lists.source.LARGEST_FILE", 1_000_000)
    assert "a list has at most 1,000,000" in refused(path)
    assert input_file.LARGEST_FILE == 20_000_000


# -- workbooks ---------------------------------------------------------------------------------------------------------


def repacked(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A workbook of which each part is changed so."""
    with zipfile.ZipFile(path) as book:
        parts = {name: change(name, book.read(name)) for name in book.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, part in parts.items():
            book.writestr(name, part)
    return path


def of_sheet(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    return lambda name, part: part.replace(old, new, 1) if "worksheets/" in name else part


PEOPLE = [HEADER, *((f"+658765432{place}", name) for place, name in enumerate(["Al", "Bo", "Cy", "Di", "Ed"]))]


@pytest.mark.anyio
@pytest.mark.parametrize("hidden", [b' hidden="1"', b' hidden="true"', b' ht="0" customHeight="1"'])
async def test_whom_a_filter_hides_and_who_is_struck_through_is_left_out_and_counted(
    tmp_path: Path, hidden: bytes, queue: CallQueue
) -> None:
    def strike(page: object) -> None:
        for column in "AB":
            page[f"{column}5"].font = Font(strike=True)  # type: ignore[index]

    path = changed(workbook(tmp_path, [*PEOPLE, ("none", "Flo")]), strike)
    repacked(path, of_sheet(b'<row r="3"', b'<row r="3"' + hidden))
    report = await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True)
    assert (report.enqueued, report.left_out, report.rejected, report.rows) == (3, 2, 1, 6)
    assert {job.destination[-1] for job in await queue.find()} == {"0", "2", "4"}
    notes = [each.message for each in report.findings if each.message.startswith("left out")]
    assert notes == [
        "left out: 1 row that is hidden in the sheet", "left out: 1 row that is struck through in the sheet",
    ]  # fmt: skip
    assert len(read_number_file(path).numbers) == 5, "in a suppression file each counts"


def test_rows_and_cells_that_would_be_lost_refuse_the_workbook(tmp_path: Path) -> None:
    for old, new, why in (
        (b'<row r="3"', b'<row r="2"', "row 2 follows row 2"),
        (b'<row r="3"', b'<row r="2000000000"', "row 2000000000 follows row 2"),
        (b'<c r="A3"', b'<c r="C3"', "the cells of row 3 are not in their order"),
        (b"</sheetData>", b"<row><c><v>" + b"1" * 3_000_000 + b"</v></c></row></sheetData>", "more than 1,000,000"),
    ):
        assert why in refused(repacked(workbook(tmp_path, PEOPLE), of_sheet(old, new)))
    assert "is no workbook (.xlsx)" in refused(file_of(tmp_path, "destination,name\n", "a.xlsx"))


def test_a_formula_without_a_result_is_a_bad_row_and_an_empty_result_an_empty_cell(tmp_path: Path) -> None:
    path = workbook(tmp_path, [HEADER, ('="+65"&A9', "Al"), ("+6587654321", "=B9"), ("+6587654322", "Bo")])
    found = [(row, column) for row, column, _, message in told(read(path)) if "formula without a result" in message]
    assert found == [(2, "destination"), (3, "name")]
    cell = b'<c r="B3" t="str"><f>B9</f><v></v></c>'
    repacked(path, lambda name, part: part.replace(b'<c r="B3"><f>B9</f><v /></c>', cell).replace(
        b'<c r="B3"><f>B9</f><v></v></c>', cell) if "worksheets/" in name else part)  # fmt: skip
    assert [(row, column, "is empty" in message) for row, column, _, message in told(read(path)) if row == 3] == [
        (3, "name", True)
    ]


def test_a_zip_that_unpacks_to_more_than_200_mb_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path, PEOPLE)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as book, book.open("xl/media/a.bin", "w") as part:
        for _ in range(201):
            part.write(bytes(1_000_000))
    assert "unpacks to 201" in refused(path)


def test_one_of_several_sheets_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path, PEOPLE, Other=[HEADER, ("+6587654329", "Zoe")])
    assert "has several sheets with rows: People, Other. Name one: `sheet: People`" in refused(path)
    assert read_all(path, replace(OPTIONS, sheet="other")).heard == ["Hello Zoe."]
    assert "has no sheet '*'" in refused(path, replace(OPTIONS, sheet="*"))
    book = load_workbook(path)
    book["Other"].sheet_state = "hidden"
    book.save(path)
    assert len(read_all(path).calls) == 5


# -- no row vanishes ---------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_good_bad_duplicate_and_left_out_rows_add_up_to_the_rows_of_the_file(tmp_path: Path) -> None:
    choice = random.Random(7)
    for _ in range(20):
        kinds = [choice.choice(["good", "bad", "twice", "out", "ragged"]) for _ in range(30)]
        made = {"bad": "none,B,", "twice": "+6587654321,T,", "out": "+6587654322,O,x", "ragged": "+6587654323"}
        rows = [made.get(kind, f"+65{81000000 + place},G,") for place, kind in enumerate(kinds)]
        path = file_of(tmp_path, "\n".join(["destination,name,DNC", *rows, ""]))
        report = await check_file(path, Campaign.of({**SAID, "say": "Hi.", "leave_out": "DNC=x"}).options, now=NOW)
        assert report.rows == len(kinds)
        assert report.valid + report.duplicates + report.rejected + report.left_out == len(kinds)
        assert report.left_out == kinds.count("out")


NOTES = ("", "x", '"a, b"')
DAMAGES: Sequence[Callable[[str, random.Random], str]] = (
    lambda text, by: text[: (at := by.randrange(len(text)))] + '"' + text[at:],
    lambda text, by: text[: (at := by.randrange(len(text)))] + text[at + 1 :],
    lambda text, by: text.replace(",", ";", by.randrange(1, 4)),
    lambda text, by: text[: by.randrange(20, len(text))],
)


HELLO = saying("Hello.")


def test_no_damaged_table_is_accepted_with_fewer_people_than_its_lines(tmp_path: Path) -> None:
    by = random.Random(11)
    for _ in range(400):
        people = [f"+65{81000000 + 11 * n},Ana {n},{by.choice(NOTES)}" for n in range(by.randint(2, 6))]
        table = by.choice(DAMAGES)("\n".join(["destination,name,note", *people, ""]), by)
        try:
            reading = read_all(file_of(tmp_path, table), HELLO)
        except CampaignFileError:
            continue
        if not reading.errors:
            lines = [line for line in table.splitlines()[1:] if line.strip()]
            assert len(reading.rows) == len(lines), table


# -- what a list probably is -------------------------------------------------------------------------------------------


def test_the_column_of_the_numbers_is_proposed_only_if_one_alone_has_them(tmp_path: Path) -> None:
    for table, wanted in (
        ("Name,Handy,Visit\nAna,+6587654321,2030-01-31\n", "Handy"),
        ("Name,Home Phone,Mobile\nAna,+6561234567,+6587654321\n", "Mobile"),
        ("Name,Doctor phone,Patient phone\nAna,+6561234567,+6587654321\n", None),
        ("Name,whom\nAna,+6587654321\n", "whom"),
        ("Practice Dr. X,\nExport of,1 Nov\n,\nName,Handy\nAna,+6587654321\n", None),
    ):
        assert preview_list(InputFile(file_of(tmp_path, table))).number_column == wanted, table


def test_a_suppression_file_that_cannot_be_read_to_its_end_gives_the_numbers_of_all_its_lines(tmp_path: Path) -> None:
    path = file_of(tmp_path, 'phone,name\n+6587654321,Ana\n+6587654322,"Ben\n+6587654323,Cy\n')
    found = read_number_file(path)
    assert [*found.numbers] == ["+6587654321", "+6587654322", "+6587654323"]
    assert ["line 3: a quote" in each.message for each in found.findings] == [True]
