"""Workbooks as people and programs make them: formulas without results, errors, hidden rows, coded characters."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape
from zipfile import ZipFile

import pytest

from tests.campaigns.forms import FORMS, written
from tests.campaigns.reading import NOW, OPTIONS, read, read_all, refused, saying, told
from tests.campaigns.workbooks import changed, workbook
from tests.support.started import enqueue_file
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.enqueue import check_file
from voiceflow_worker.campaigns.files.spreadsheet import decoded
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.finding import Finding
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.column_time import ColumnTime

_CONTENT = """<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="xml" ContentType="application/xml"/></Types>"""
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
ANA = "+6587654321"
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


def sheets(folder: Path, *rows: str) -> Path:
    """A file of the usual header, and these rows."""
    return sheet_file(folder, HEADER + "".join(rows))


def test_a_formula_without_a_result_is_bad_in_every_column(tmp_path: Path) -> None:
    for formula in NO_RESULTS:
        for place, column in enumerate(("destination", "name", "not_before", "valid_until", "priority")):
            cells = ["+6587654322", "Ben", "", "", ""]
            cells[place] = formula
            rows = read(sheets(tmp_path, GOOD, row(*cells)))
            assert [(number, found, message) for number, found, _, message in told(rows)] == [(3, column, NO_RESULT)]


def test_a_row_of_formulas_without_results_does_not_vanish(tmp_path: Path) -> None:
    path = workbook(tmp_path, (("destination", "name"), ('="+65"&A3', "=B3"), ("87654321", "Ana")))
    assert [(number, column) for number, column, _, message in told(read(path)) if message == NO_RESULT] == [
        (2, "destination"), (2, "name"),
    ]  # fmt: skip


def test_a_result_of_zero_from_a_program_that_computes_nothing_is_none(tmp_path: Path) -> None:
    rows = row("destination", "name", "priority") + row("+6587654321", "Ana", "<c><f>2+3</f><v>0</v></c>")
    path = sheet_file(tmp_path, rows, book='<calcPr calcId="124519" fullCalcOnLoad="1"/>')
    assert [(column, message) for _, column, _, message in told(read(path))] == [("priority", NO_RESULT)]


def test_an_empty_result_is_an_empty_cell_and_a_result_is_a_value(tmp_path: Path) -> None:
    cells = (
        '<c t="str"><f>"+65"&amp;A9</f><v>+6587654321</v></c>', '<c t="str"><f>B9</f><v>Ana</v></c>',
        '<c t="str"><f>IF(C9="","",C9)</f><v></v></c>', "<c/>", "<c><f>2+3</f><v>5</v></c>",
    )  # fmt: skip
    (call,) = read_all(sheets(tmp_path, row(*cells))).calls
    assert (call.destination, call.priority, call.not_before) == ("+6587654321", 5, None)


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
        rows = [dict(zip(names, cells, strict=True)) for cells in people]
        typed = [[f'<c t="e"><v>{each}</v></c>' if each in ERRORS else each for each in cells] for cells in people]
        for given in (
            *(written(tmp_path, rows, form) for form in FORMS if form != "rows"),
            *(sheets(tmp_path, *(row(*cells) for cells in each)) for each in (people, typed)),
        ):
            assert isinstance(given, Path)
            for (_, column, _, message), error in zip(told(read(given)), ERRORS, strict=True):
                said = f"holds {'' if error.startswith('##') else 'the error '}{error}"
                assert (column, said in message) == (name, True), (given, message)


@pytest.mark.anyio
async def test_rejects_of_such_cells_are_bad_again(tmp_path: Path, queue: CallQueue) -> None:
    path = sheets(tmp_path, row("+6587654322", "Ben", NO_RESULTS[0], "", '<c t="e"><v>#BUSY!</v></c>'))
    rejects = tmp_path / "bad.csv"
    assert (await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True, rejects=rejects)).rejected == 1
    assert next(csv.DictReader(rejects.read_text("utf-8-sig").splitlines()))["not_before"] == "#N/A"
    assert (await enqueue_file(queue, rejects, OPTIONS, now=NOW)).rejected == 1


HIDDEN = (' hidden="1"', ' hidden="true"', ' ht="0" customHeight="1"', ' outlineLevel="1" hidden="1"')


@pytest.mark.anyio
@pytest.mark.parametrize("hidden", HIDDEN)
async def test_hidden_rows_are_left_out_and_told_before_anything_is_enqueued(
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
    assert told_first == ["4 rows of the sheet People are hidden, and left out: 3-5, 8"]
    for report in (dry, await check_file(path, OPTIONS, now=NOW), stored):
        assert told_first[0] in [found.message for found in report.findings]
        assert (report.valid, report.left_out) == (4, 4)
    assert [*read_number_file(path).numbers] == [f"+658765432{place}" for place in range(8)], "to be suppressed"


def test_a_code_is_the_character_that_it_stands_for(tmp_path: Path) -> None:
    for coded, text in [
        ("passport._x000D_\nBring it", "passport.\nBring it"), ("a_x0009_b", "a\tb"), ("a_x000d_b", "a\nb"),
        ("_x005F_x000D_", "_x000D_"), ("a_x005F_b", "a_b"), ("_x005f_x005F_", "_x005F_"),
        ("_x00E9_t_x00e9_", "été"), ("_xD83D__xDE00_", "😀"), ("first_x_name", "first_x_name"),
        ("_x00_ _X0041_ _x00411_ x0041_", "_x00_ _X0041_ _x00411_ x0041_"),
    ]:  # fmt: skip
        assert decoded(coded) == text
        shared = workbook(tmp_path, [("destination", "name"), (ANA, coded)], "shared.xlsx")
        stored = f'<c t="str"><f>B9</f><v>{coded}</v></c>'
        assert read_all(shared).heard == [f"Hello {text}."]
        for each in (coded, stored):
            assert read_all(sheets(tmp_path, row(ANA, each))).heard == [f"Hello {text}."]
    for code in ("_x0007_", "_x0000_", "_xD83D_", "_xDE00__xD83D_"):
        ((number, *_),) = told(read(sheets(tmp_path, row(ANA, f"A{code}na"))))
        assert number == 2, "what cannot be spoken"
    header = sheet_file(tmp_path, row("destination", "First_x000D_\nName") + row(ANA, "Ana"))
    assert read_all(header, saying("Hello {{first_name}}.")).heard == ["Hello Ana."]


def test_hints_for_the_pronunciation_of_a_text_are_not_part_of_it(tmp_path: Path) -> None:
    cell = "<c t='inlineStr'><is><r><t>東</t></r><r><t>京</t></r><rPh sb='0' eb='2'><t>トウキョウ</t></rPh></is></c>"
    assert read_all(sheets(tmp_path, row(ANA, cell))).heard == ["Hello 東京."]


def test_a_sheet_that_would_lose_a_row_or_a_cell_is_refused(tmp_path: Path) -> None:
    for rows, reason in (
        ('<row r="3"><c><v>1</v></c></row><row r="2"><c><v>1</v></c></row>', "row 2 of the sheet People comes after"),
        ('<row r="3"><c r="A3"><v>1</v></c><c r="A3"><v>2</v></c></row>', "the cell A3 is there twice"),
        ('<row><c t="s"><v>7</v></c></row>', "is damaged"), ('<row><c t="x"><v>7</v></c></row>', "unknown type x"),
    ):  # fmt: skip
        assert reason in refused(sheets(tmp_path, rows))


def test_a_workbook_of_the_strict_kind_is_read(tmp_path: Path) -> None:
    """It has other namespaces, and days as texts of ISO 8601."""
    path = workbook(tmp_path, [("destination", "name", "visit"), ("+6587654321", "Ana", date(2030, 1, 31))])
    changes = {
        b"http://schemas.openxmlformats.org/officeDocument/2006/": b"http://purl.oclc.org/ooxml/officeDocument/",
        b"http://schemas.openxmlformats.org/spreadsheetml/2006/main": b"http://purl.oclc.org/ooxml/spreadsheetml/main",
        b't="n"><v>47514</v>': b't="d"><v>2030-01-31T00:00:00.000</v>',
    }
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            for old, new in changes.items():
                part = part.replace(old, new)  # noqa: PLW2901
            archive.writestr(name, part)
    assert b't="d"' in zipfile.ZipFile(path).read("xl/worksheets/sheet1.xml")
    assert read_all(path, english("{{visit}}")).heard == ["2030-01-31"]


MIDNIGHT = datetime.fromisoformat("2030-02-01 00:00")


def english(text: str, **more: Any) -> CampaignOptions:
    return saying(text, voice_profile="en-US-JennyNeural", time_zone="Asia/Singapore", **more)


def dated(folder: Path, column: str, value: object, shown: str, *more: object) -> Path:
    def formatted(sheet: Any) -> None:
        for cell in sheet["B"][1:]:
            cell.number_format = shown

    people = [(f"{ANA[:-2]}{place}0", each) for place, each in enumerate((value, *more), 2)]
    return changed(workbook(folder, [("destination", column), *people]), formatted)


def test_a_cell_that_shows_midnight_is_midnight_in_a_later_text_too(tmp_path: Path) -> None:
    path = dated(tmp_path, "visit", MIDNIGHT, "yyyy-mm-dd hh:mm")
    menu = Menu("ask", prompt="Press 1.", voice_profile="en-US-JennyNeural")
    menu.on("1", goto="At {{visit|time}}.")
    campaign = CampaignRows(path, CampaignOptions(menu=menu, source="+6531234567", batch_id="b"), now=NOW)
    (row,) = campaign
    assert campaign.later_texts(row)[0][1] == "At 12:00 AM."


def test_nothing_is_counted_from_days_that_hide_midnight_of_another_zone(tmp_path: Path) -> None:
    hidden = dated(tmp_path, "day", datetime(2030, 1, 29, 16), "yyyy-mm-dd")  # noqa: DTZ001
    (error,) = read_all(hidden, english("Hello.", not_before=ColumnTime.read("day - 1d"))).errors
    assert error.startswith("day: ")
    assert "has no time of day" in error


# -- a cell is spoken as it is shown, by its number format -------------------------------------------------------------

FIRST = 6587654321


def shown_in(folder: Path, cases: Sequence[tuple[object, str, str]]) -> Path:
    """A workbook with a row for each case."""

    def formatted(sheet: Any) -> None:
        for row, (_, code, _text) in enumerate(cases, 2):
            sheet.cell(row, 2).number_format = code

    people = [(f"+{FIRST + row}", value) for row, (value, *_) in enumerate(cases, 2)]
    return changed(workbook(folder, [("destination", "x"), *people], "people.xlsx"), formatted)


def heard(path: Path, text: str = "{{x}}", voice: str = "en-US-JennyNeural") -> list[object]:
    reading = read_all(path, saying(text, voice_profile=voice))
    assert reading.errors == []
    return list(reading.heard)


def with_built_in(folder: Path, values: Sequence[float], numbers: Sequence[int]) -> Path:
    """A workbook whose cells have built-in formats of Excel in another language."""
    path = shown_in(folder, [(value, f'"f{number}"0', "") for value, number in zip(values, numbers, strict=True)])
    with ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    styles = parts["xl/styles.xml"].decode()
    for place, number in enumerate(dict.fromkeys(numbers)):
        styles = styles.replace(f'numFmtId="{164 + place}"', f'numFmtId="{number}"')
    start, end = styles.index("<numFmts"), styles.index("</numFmts>") + len("</numFmts>")
    parts["xl/styles.xml"] = (styles[:start] + styles[end:]).encode()
    with ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def test_built_in_formats_of_other_languages_are_known(tmp_path: Path) -> None:
    dates = [*range(27, 32), 36, 50, 51, 57, 58]
    assert heard(with_built_in(tmp_path, [47514] * len(dates), dates)) == ["2030-01-31"] * len(dates)
    clocks = [32, 33]
    assert heard(with_built_in(tmp_path, [0.4375] * len(clocks), clocks)) == ["10:30"] * len(clocks)
