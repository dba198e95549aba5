"""Workbooks as people and programs make them: formulas without results, errors, hidden rows, coded characters."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from openpyxl import Workbook
from openpyxl.comments import Comment
from openpyxl.formatting.rule import FormulaRule
from openpyxl.styles import Font, PatternFill
from openpyxl.worksheet.worksheet import Worksheet
from xlsxwriter import Workbook as Written

from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, read, text_of, told
from tests.campaigns.workbooks import parquet, workbook
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.enqueue import check_file, enqueue_file
from voiceflow_worker.campaigns.files.spreadsheet import decoded
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.ivr.menu import Menu

_CONTENT = """<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="xml" ContentType="application/xml"/></Types>"""
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
NO_RESULT = "has a formula whose result is not stored; open the file in Excel and save it once"


def sheet_file(folder: Path, rows: str, *, book: str = "", office: str = _OFFICE, name: str = "visits.xlsx") -> Path:
    """A workbook with one sheet of these rows, written as XML."""
    links = "http://schemas.openxmlformats.org/package/2006/relationships"
    parts = {
        "[Content_Types].xml": _CONTENT,
        "_rels/.rels": f'<Relationships xmlns="{links}"><Relationship Id="a" Type="{office}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{office}"><sheets><sheet name="People" sheetId="1" '
        f'r:id="b"/></sheets>{book}</workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{links}"><Relationship Id="b" Type="{office}/worksheet" '
        'Target="/xl/worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>{rows}</sheetData></worksheet>',
    }
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return path


def row(*cells: str, more: str = "") -> str:
    """A row of cells that are XML, or texts."""
    made = [each if each.startswith("<c") else f'<c t="inlineStr"><is><t>{escape(each)}</t></is></c>' for each in cells]
    return f"<row{more}>{''.join(made)}</row>"


HEADER = row("destination", "name", "not_before", "valid_until", "priority")
GOOD = row("+6587654321", "Ana", "", "", "")
NO_RESULTS = (
    '<c><f>"+65"&amp;A3</f></c>', "<c><f>B3</f><v/></c>", "<c><f>B3</f><v></v></c>", '<c t="str"><f>B3</f></c>',
    '<c t="n"><f t="shared" si="0"/></c>', '<c><f t="array" ref="A2:A4">B3:B5</f></c>',
)  # fmt: skip


def test_a_formula_without_a_result_is_bad_in_every_column(tmp_path: Path) -> None:
    for formula in NO_RESULTS:
        for place, column in enumerate(("destination", "name", "not_before", "valid_until", "priority")):
            cells = ["+6587654322", "Ben", "", "", ""]
            cells[place] = formula
            rows = read(sheet_file(tmp_path, HEADER + GOOD + row(*cells)))
            assert [(number, found, message) for number, found, _, message in told(rows)] == [(3, column, NO_RESULT)]


def test_a_row_of_formulas_without_results_does_not_vanish(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for cells in (("destination", "name"), ('="+65"&A3', "=B3"), ("87654321", "Ana")):
        sheet.append(cells)
    path = tmp_path / "visits.xlsx"
    book.save(path)
    assert [(number, column) for number, column, _, message in told(read(path)) if message == NO_RESULT] == [
        (2, "destination"), (2, "name"),
    ]  # fmt: skip


def test_a_result_of_zero_from_a_program_that_computes_nothing_is_none(tmp_path: Path) -> None:
    path = tmp_path / "visits.xlsx"
    book: Any = Written(str(path))
    sheet = book.add_worksheet("People")
    sheet.write_row(0, 0, ["destination", "name", "priority"])
    sheet.write_row(1, 0, ["+6587654321", "Ana"])
    sheet.write_formula(1, 2, "=2+3")
    book.close()
    assert [(column, message) for _, column, _, message in told(read(path))] == [("priority", NO_RESULT)]


def test_an_empty_result_is_an_empty_cell_and_a_result_is_a_value(tmp_path: Path) -> None:
    cells = (
        '<c t="str"><f>"+65"&amp;A9</f><v>+6587654321</v></c>',
        '<c t="str"><f>B9</f><v>Ana</v></c>',
        '<c t="str"><f>IF(C9="","",C9)</f><v></v></c>',
        "<c/>",
        "<c><f>2+3</f><v>5</v></c>",
    )
    (read_row,) = read(sheet_file(tmp_path, HEADER + row(*cells)))
    assert (told([read_row]), read_row.number) == ([], "+6587654321")
    assert (read_row.call and read_row.call.priority, read_row.call and read_row.call.not_before) == (5, None)


ERRORS = (
    "#BUSY!", "#FIELD!", "#CONNECT!", "#N/A", "#REF!", "#SPILL!", "#CALC!", "#NAME?", "#NULL!", "#NUM!", "#DIV/0!",
    "#VALUE!", "#GETTING_DATA", "#BLOCKED!", "#UNKNOWN!", "#PYTHON!", "#NV", "#BEZUG!", "#¡VALOR!", "#¿NOMBRE?",
    "#ДЕЛ/0!", "#\N{CYRILLIC CAPITAL LETTER EN}/Д", "#N/D", "#ERROR!", "Err:502", "###", "########",
)  # fmt: skip


def test_an_error_is_no_value_in_any_format(tmp_path: Path) -> None:
    names = ("destination", "name", "not_before", "valid_until", "priority")
    for place, name in enumerate(names):
        people = [[f"+65876543{count}", "Ben", "", "", ""] for count in range(10, 10 + len(ERRORS))]
        for cells, error in zip(people, ERRORS, strict=True):
            cells[place] = error
        typed = [[f'<c t="e"><v>{each}</v></c>' if each in ERRORS else each for each in cells] for cells in people]
        files = (
            file_of(tmp_path, "\n".join(map(",".join, (names, *people))), "a.csv"),
            file_of(
                tmp_path, "\n".join(json.dumps(dict(zip(names, cells, strict=True))) for cells in people), "a.jsonl"
            ),
            parquet(tmp_path, dict(zip(names, map(list, zip(*people, strict=True)), strict=True))),
            sheet_file(tmp_path, HEADER + "".join(row(*cells) for cells in people), name="a.xlsx"),
            sheet_file(tmp_path, HEADER + "".join(row(*cells) for cells in typed), name="b.xlsx"),
        )
        for path in files:
            for (_, column, _, message), error in zip(told(read(path)), ERRORS, strict=True):
                said = f"holds {'' if error.startswith('##') else 'the error '}{error}"
                assert (column, said in message) == (name, True), (path, message)


def test_other_texts_with_such_signs_are_values(tmp_path: Path) -> None:
    for text in ["#1", "#5-01 Lim", "#", "# 12", "#Ana!", "No. #3", "Err: none", "Erri:502", "E"]:
        rows = read(file_of(tmp_path, f"destination,name\n+6587654321,{text}\n"))
        assert list(map(text_of, calls_of(rows))) == [f"Hello {text}."]


@pytest.mark.anyio
async def test_rejects_of_such_cells_are_bad_again(tmp_path: Path, queue: CallQueue) -> None:
    path = sheet_file(tmp_path, HEADER + row("+6587654322", "Ben", NO_RESULTS[0], "", '<c t="e"><v>#BUSY!</v></c>'))
    rejects = tmp_path / "bad.csv"
    assert (await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True, rejects=rejects)).rejected == 1
    assert next(csv.DictReader(rejects.read_text("utf-8-sig").splitlines()))["not_before"] == "#N/A"
    assert (await enqueue_file(queue, rejects, OPTIONS, now=NOW)).rejected == 1


HIDDEN = (' hidden="1"', ' hidden="true"', ' ht="0" customHeight="1"', ' outlineLevel="1" hidden="1"')


@pytest.mark.anyio
@pytest.mark.parametrize("hidden", HIDDEN)
async def test_hidden_rows_are_told_before_anything_is_enqueued(
    tmp_path: Path, hidden: str, queue: CallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [row(f"+658765432{place}", "Ana", more=hidden if place in {1, 2, 3, 6} else "") for place in range(8)]
    path = sheet_file(tmp_path, HEADER + "".join(people) + row("", "", more=hidden))
    told_first: list[str] = []

    def warn(findings: Sequence[Finding]) -> None:
        told_first.extend(found.message for found in findings if not admitted)

    admitted: list[object] = []
    admit = queue.admitter.admit

    async def noted(*given: Any, **more: Any) -> object:
        admitted.append(given)
        return await admit(*given, **more)

    monkeypatch.setattr(queue.admitter, "admit", noted)
    dry = await enqueue_file(queue, path, OPTIONS, now=NOW, dry_run=True)
    admitted.clear()
    stored = await enqueue_file(queue, path, OPTIONS, now=NOW, warn=warn)
    assert len(told_first) == 1
    for report in (dry, await check_file(path, OPTIONS, now=NOW), stored):
        warnings = [found.message for found in report.findings if "hidden" in found.message]
        assert len(warnings) == 1
        assert warnings[0].startswith("4 rows are hidden in the sheet People")
        assert "3 to 5, 8." in warnings[0]


def test_a_code_is_the_character_that_it_stands_for(tmp_path: Path) -> None:
    for coded, text in [
        ("passport._x000D_\nBring it", "passport.\nBring it"),
        ("a_x0009_b", "a\tb"),
        ("a_x000d_b", "a\nb"),
        ("_x005F_x000D_", "_x000D_"),
        ("a_x005F_b", "a_b"),
        ("_x005f_x005F_", "_x005F_"),
        ("_x00E9_t_x00e9_", "été"),
        ("_xD83D__xDE00_", "😀"),
        ("_x00_ _X0041_ _x00411_ x0041_", "_x00_ _X0041_ _x00411_ x0041_"),
        ("first_x_name", "first_x_name"),
    ]:
        assert decoded(coded) == text
        shared = workbook(tmp_path, [("destination", "name"), ("+6587654321", coded)], "shared.xlsx")
        stored = f'<c t="str"><f>B9</f><v>{coded}</v></c>'
        for path in (shared, *(sheet_file(tmp_path, HEADER + row("+6587654321", each)) for each in (coded, stored))):
            assert list(map(text_of, calls_of(read(path)))) == [f"Hello {text}."], path


@pytest.mark.parametrize("code", ["_x0007_", "_x0000_", "_xD83D_", "_xDE00__xD83D_"])
def test_a_code_of_what_cannot_be_spoken_makes_the_row_bad(tmp_path: Path, code: str) -> None:
    ((number, *_),) = told(read(sheet_file(tmp_path, HEADER + row("+6587654321", f"A{code}na"))))
    assert number == 2


def test_a_header_has_such_codes_too(tmp_path: Path) -> None:
    from voiceflow_worker.campaigns.calls.template import FlowTemplate

    options = replace(OPTIONS, template=FlowTemplate.speaking("Hello {{first_name}}."))
    path = sheet_file(tmp_path, row("destination", "First_x000D_\nName") + row("+6587654321", "Ana"))
    assert list(map(text_of, calls_of(read(path, options)))) == ["Hello Ana."]


def test_hints_for_the_pronunciation_of_a_text_are_not_part_of_it(tmp_path: Path) -> None:
    cell = "<c t='inlineStr'><is><r><t>東</t></r><r><t>京</t></r><rPh sb='0' eb='2'><t>トウキョウ</t></rPh></is></c>"
    assert list(map(text_of, calls_of(read(sheet_file(tmp_path, HEADER + row("+6587654321", cell)))))) == [
        "Hello 東京."
    ]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ('<row r="3"><c><v>1</v></c></row><row r="2"><c><v>1</v></c></row>', "row 2 of the sheet People comes after"),
        ('<row r="3"><c r="A3"><v>1</v></c><c r="A3"><v>2</v></c></row>', "the cell A3 is there twice"),
        ('<row><c t="s"><v>7</v></c></row>', "is damaged"),
        ('<row><c t="x"><v>7</v></c></row>', "unknown type x"),
    ],
)
def test_a_sheet_that_would_lose_a_row_or_a_cell_is_refused(tmp_path: Path, rows: Sequence[str], reason: str) -> None:
    with pytest.raises(CampaignFileError, match=reason):
        read(sheet_file(tmp_path, f"{HEADER}{rows}"))


def test_a_workbook_in_the_strict_format_is_refused_with_the_remedy(tmp_path: Path) -> None:
    strict = "http://purl.oclc.org/ooxml/officeDocument/relationships"
    with pytest.raises(
        CampaignFileError, match="is a workbook in the format Strict Open XML; in Excel, choose Save As"
    ):
        read(sheet_file(tmp_path, HEADER + GOOD, office=strict))


@pytest.mark.parametrize("cell", ["=A9", "#N/A", "########"])
def test_a_wrong_cell_in_a_number_column_of_another_name_has_one_error(tmp_path: Path, cell: str) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for cells in [("Mobile", "name"), (cell, "Ana")]:
        sheet.append(cells)
    path = tmp_path / "visits.xlsx"
    book.save(path)
    (found,) = told(read(path, replace(OPTIONS, columns={"destination": "Mobile"})))
    assert found[1] == "Mobile"


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


def test_red_rows_comments_and_conditional_lines_are_told(tmp_path: Path) -> None:
    def told_of(change: Callable[[Worksheet], object], rows: int = 6) -> list[str]:
        book = Workbook()
        sheet = book.active
        assert isinstance(sheet, Worksheet)
        for row in (("destination", "name"), *((f"+658765432{place}", "Ana") for place in range(rows))):
            sheet.append(row)
        change(sheet)
        book.save(path := tmp_path / "visits.xlsx")
        campaign = CampaignRows(path, saying("Hello {{name}}."), now=NOW)
        assert len(list(campaign)) == rows
        return [found.message for found in campaign.closing_findings()]

    def paint(sheet: Worksheet, rows: Iterable[int], colour: str, *, is_font: bool = False) -> None:
        for cell in (cell for row in rows for cell in sheet[row]):
            if is_font:
                cell.font = Font(color=colour)
            else:
                cell.fill = PatternFill("solid", fgColor=colour)

    for colour, is_font in (("FFFF0000", False), ("FFFFC7CE", False), ("FF9C0006", True), ("C00000", True)):
        (message,) = told_of(partial(paint, rows=(3, 5, 6), colour=colour, is_font=is_font))
        assert message.startswith(
            "3 rows of the sheet Sheet are red, and called like the others: 3, 5 to 6. If that says"
        )
    for harmless in ("FFFFC000", "FF00B050", "FFFFFF00", "FF000000", "FFFFFFFF", "FF7030A0"):
        assert told_of(partial(paint, rows=(3, 5, 6), colour=harmless)) == []
    assert told_of(lambda sheet: paint(sheet, range(2, 8), "FFFF0000")) == [], "all rows are so"
    assert told_of(lambda sheet: paint(sheet, (1,), "FFFF0000")) == [], "the header"

    def add_rule(sheet: Any, rule: Any) -> None:
        sheet.conditional_formatting.add("A2:B7", rule)

    def comment(sheet: Worksheet, place: str) -> None:
        sheet[place].comment = Comment("do not call\nbefore May", "Ben")

    (message,) = told_of(lambda sheet: comment(sheet, "B3"))
    assert message.startswith(
        "comments are in 1 cell of the sheet Sheet, such as B3, 'do not call before May': see whether"
    )
    assert told_of(lambda sheet: comment(sheet, "B1")) == [], "of the header"
    rule: Any = FormulaRule(formula=['$B2="gone"'], font=Font(strike=True))  # type: ignore[no-untyped-call]
    (message,) = told_of(partial(add_rule, rule=rule))
    assert message.startswith(
        "a conditional format of the sheet Sheet strikes cells through (A2:B7), and such rows are"
    )
    bold: Any = FormulaRule(formula=['$B2="gone"'], font=Font(bold=True))  # type: ignore[no-untyped-call]
    assert told_of(partial(add_rule, rule=bold)) == []


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
