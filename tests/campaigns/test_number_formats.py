"""A cell of a workbook is spoken as it is shown, by its number format; judged by programs that show it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import xlsxwriter
from openpyxl import Workbook

from tests.campaigns.forms import saying
from tests.campaigns.reading import NOW, calls_of, read, text_of, told
from voiceflow_worker.campaigns.campaign_rows import open_campaign

ANA = 6587654321
DAY, VISIT, LATER = date(2030, 1, 31), datetime(2030, 1, 31, 14, 30), datetime(2030, 1, 31, 17, 34, 31)  # noqa: DTZ001

ACCOUNT = '_(* #,##0_);_(* \\(#,##0\\);_(* "-"_);_(@_)'
GRADE, PAID = '[>=90]"A";[>=80]"B";"C"', '[=1]"Yes";[=0]"No";General'
SHOWN: Sequence[tuple[object, str, str]] = [
    # What a cell stores, its format, and what it shows.
    (0.15, "0%", "15%"), (0.155, "0%", "16%"), (0.155, "0.0%", "15.5%"), (-0.15, "0%", "-15%"), (15, '0"%"', "15%"),
    (13.0691, "0.00", "13.07"), (13, "0.00", "13.00"), (13.0691, "0", "13"), (-0.004, "0.00", "0.00"),
    (13.5, "0.##", "13.5"), (-42, "0.0;-0.0", "-42.0"), (1, "0%", "100%"), (1234567, '0.0,,"M"', "1.2M"),
    (42, "\\A-0000", "A-0042"), (1234, "00-00-00", "00-12-34"), (12345678, "000-00-0000", "012-34-5678"),
    (42, '"K-"0000', "K-0042"), (7, '"No. "0', "No. 7"), (5, "+0;-0;0", "+5"), (-5, "+0;-0;0", "-5"),
    (2.5, "+0.0;-0.0", "+2.5"), (3, "\\#0", "#3"),
    (0, "+0;-0;0", "0"), (0, '0;-0;"none"', "none"), (1, '"Yes";"Yes";"No"', "Yes"), (0, '"Yes";"Yes";"No"', "No"),
    (1, PAID, "Yes"), (0, PAID, "No"), (3, PAID, "3"), (95, GRADE, "A"), (85, GRADE, "B"), (7, GRADE, "C"),
    (0.5, "# ?/?", "1/2"), (1.75, "# ?/?", "1 3/4"), (2, "# ?/?", "2"), (0.3333333, "# ??/??", "1/3"),
    (0.75, "# ?/4", "3/4"), ("Ana", '"Ms. "@', "Ms. Ana"), ("Ana", "0.00", "Ana"),
    (DAY, "dddd", "Thursday"), (DAY, "ddd", "Thu"), (DAY, "mmmm", "January"), (DAY, "mmmm yyyy", "January 2030"),
    (DAY, "yyyy", "2030"), (DAY, "mmm-yy", "Jan-30"),
    (VISIT, "h:mm AM/PM", "2:30 PM"), (time(9, 5), "h:mm AM/PM", "9:05 AM"), (time(14), "h AM/PM", "2 PM"),
    (VISIT, "hh:mm", "14:30"), (LATER, "hh:mm", "17:34"), (LATER, "hh:mm:ss", "17:34:31"),
    (VISIT, 'h" Uhr "mm', "14 Uhr 30"), (VISIT, 'h"時"mm"分"', "14時30分"), (VISIT, "ddd h:mm", "Thu 14:30"),
    (time(0, 30, 5), "mm:ss", "30:05"),
]  # fmt: skip
OURS: Sequence[tuple[object, str, str]] = [
    # What these programs show otherwise, each in its own way.
    (1.005, "0.00", "1.01"), (5.5, "00.0", "05.5"), (0.075, "0.00 %", "7.50 %"),
    (DAY, "[$-407]dddd", "Donnerstag"), (DAY, "[$-fr-FR]mmmm", "janvier"),
    # Plain amounts, and dates as filters read them.
    (1234.5, "#,##0.00", "1234.50"), (1234.5, '"$"#,##0.00', "1234.50"), (1234.5, "#,##0.00\\ [$€-407]", "1234.50"),
    (-1234.5, "#,##0.00;(#,##0.00)", "-1234.50"), (-1234.5, "0.00;[Red]0.00", "-1234.50"), (-3, "0;0", "3"),
    (-1234, ACCOUNT, "-1234"), (0, ACCOUNT, "-"), (1.5, "0.00E+00", "1.5"), (13.0691, "General", "13.0691"),
    (0.25, "#.##", "0.25"), (12.5, '0.00" kg"', "12.50"),
    (DAY, "d. mmmm yyyy", "2030-01-31"), (DAY, "d-mmm", "2030-01-31"), (LATER, "dd/mm/yyyy", "2030-01-31"),
    (LATER, "dd/mm/yyyy hh:mm", "2030-01-31 17:34"), (VISIT, "[$-F800]dddd\\,\\ mmmm\\ dd\\,\\ yyyy", "2030-01-31"),
    (VISIT, "d/m/yyyy h:mm AM/PM", "2030-01-31 14:30"), (time(9, 5), "h:mm", "09:05"), (time(9, 5), "h.mm", "09:05"),
]  # fmt: skip


def shown_in(folder: Path, cases: Sequence[tuple[object, str, str]]) -> Path:
    """A workbook with a row for each case."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["destination", "x"])
    for row, (value, code, _) in enumerate(cases, 2):
        sheet.append([f"+{ANA + row}", value])
        sheet.cell(row, 2).number_format = code
    book.save(path := folder / "people.xlsx")
    return path


def heard(path: Path, text: str = "{{x}}", voice: str = "en-US-JennyNeural") -> list[object]:
    rows = read(path, replace(saying(text), voice_profile=voice))
    assert told(rows) == []
    return [re.sub(r"\bminus (?=\d)", "-", str(text_of(each))) for each in calls_of(rows)]  # a sign that is heard


def test_a_cell_is_spoken_as_it_is_shown(tmp_path: Path) -> None:
    cases = [*SHOWN, *OURS]
    found = zip(cases, heard(shown_in(tmp_path, cases)), strict=True)
    assert [(*case[:2], text) for case, text in found] == cases


BESIDE: Sequence[tuple[object, str, str]] = [
    (5, '0 "kg"', "kg"), (5.25, '0.0" kg"', "kg"), (5, 'General" kg"', "kg"), (-5, '0" °C"', "°C"), (8, '0\\ "h"', "h"),
    (1250.5, '#,##0.00 "Kč"', "Kč"), (1250.5, "#,##0.00 [$zł-415]", "zł"), (1250.5, "[$CHF-807] #,##0.00", "CHF"),
    (1250.5, "[$₹-4009]#,##,##0.00", "₹"), (1250.5, '_-* #,##0.00\\ "€"_-;\\-* #,##0.00\\ "€"_-', "€"),
    (12345.678, "0.00E+00", "a power of ten"), (12345.678, "##0.0E+0", "a power of ten"), (7, '0 "von 10"', "von 10"),
]  # fmt: skip


def test_what_is_shown_beside_a_number_and_not_spoken_is_told_once(tmp_path: Path) -> None:
    def about(case: tuple[object, str, str], text: str) -> list[str]:
        path = shown_in(tmp_path, [case, case])
        campaign = open_campaign(path, replace(saying(text), voice_profile="en-US-JennyNeural"), now=NOW)
        assert told(list(campaign)) == []
        return [each.message for each in campaign.closing_findings() if "speaks the number alone" in each.message]

    for case in BESIDE:
        (message,) = about(case, "It is {{x}}.")
        assert message.startswith(f"shows {case[2]} with its numbers, and {{{{ x }}}} speaks the number alone: ")
        assert about(case, "Hello.") == [], "nobody hears it"
    for each in SHOWN:
        assert about(each, "It is {{x}}.") == [], each
    for text in ("{{x}} kilos", "{{ x }} kg", "{{x|ordinal}}"):
        assert about(BESIDE[0], text) == []
    for text in ("{{x}} Euro", "€{{x}}", "EUR {{x}}", "{{x}}€", "{{x|money('EUR')}}"):
        assert about((1250.5, '#,##0.00 "€"', ""), text) == []
    for code, words in (('#,##0.00 "€"', "euros"), ('"S$"#,##0.00', "dollars"), ("[$CHF-807] #,##0.00", "Franken")):
        assert about((1250.5, code, ""), f"{{{{x}}}} {words} per month") == []
        for text in ("{{x}} per month", "{{x}} monatlich", "{{x}} is due"):
            (message,) = about((1250.5, code, ""), text)
            assert "speaks the number alone" in message, text
    (message,) = about(BESIDE[0], "{{x}} is your luggage.")
    assert "write kg behind it" in message


def test_a_cell_that_shows_nothing_is_empty(tmp_path: Path) -> None:
    path = shown_in(tmp_path, [(0, "0;-0;;@", ""), (7, ";;;", ""), (7, "0;-0;;@", "")])
    assert heard(path, "{{x or 'nothing'}}") == ["nothing", "nothing", "7"]


def test_days_and_months_are_named_as_the_voice_speaks(tmp_path: Path) -> None:
    path = shown_in(tmp_path, [(DAY, "dddd", ""), (DAY, "mmmm", ""), (DAY, "[$-409]dddd", "")])
    assert heard(path, voice="de-DE-KatjaNeural") == ["Donnerstag", "Januar", "Thursday"]
    assert heard(path, voice="zh-CN-XiaoxiaoNeural") == ["星期四", "一月", "Thursday"]


def test_filters_and_times_read_the_value_behind_what_is_shown(tmp_path: Path) -> None:
    path = shown_in(
        tmp_path, [(VISIT, "dddd", ""), (VISIT, "dd/mm/yyyy", ""), (VISIT, "h:mm AM/PM", ""), (VISIT, "h", "")]
    )
    assert set(heard(path, "{{x|date}} at {{x|time}}")) == {"January 31, 2030 at 2:30 PM"}
    assert heard(shown_in(tmp_path, [(1234.5, '"$"#,##0.00', "")]), "{{x|money('USD')}}") == ["1234.50 US dollars"]
    assert heard(shown_in(tmp_path, [(3, "0.00", "")]), "{{x|ordinal}}") == ["3rd"]


@pytest.mark.parametrize("seconds", [(23, 59, 16), (0, 0, 25)])
def test_a_day_that_a_program_missed_by_seconds_is_that_day(tmp_path: Path, seconds: tuple[int, int, int]) -> None:
    day = datetime(2030, 1, 30 if seconds[0] else 31, *seconds)  # noqa: DTZ001
    assert heard(shown_in(tmp_path, [(day, "dd/mm/yyyy", ""), (day, "d-mmm-yy", "")])) == ["2030-01-31"] * 2


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
    dates = [*range(27, 32), 34, 35, 36, *range(50, 59), 71, 72, 73, 81]
    assert heard(with_built_in(tmp_path, [47514] * len(dates), dates)) == ["2030-01-31"] * len(dates)
    clocks = [32, 33, 34, 35, 52, 53, 54, 55, 56, 75, 76]
    assert heard(with_built_in(tmp_path, [0.4375] * len(clocks), clocks)) == ["10:30"] * len(clocks)
    others = [
        (74, 47514, "Jan-30"),
        (77, 47514.4375, "2030-01-31 10:30"),
        (67, 0.15, "15%"),
        (69, 0.5, "1/2"),
        (60, 2.5, "2.50"),
    ]
    path = with_built_in(tmp_path, [each[1] for each in others], [each[0] for each in others])
    assert heard(path) == [each[2] for each in others]
    doubtful = [34, 35, *range(52, 57)]
    found = told(read(with_built_in(tmp_path, [47514.4375] * len(doubtful), doubtful), saying("{{x}}")))
    assert [(row, "a day in one language" in message) for row, _, _, message in found] == [
        (row, True) for row in range(2, len(doubtful) + 2)
    ]


def _by_libreoffice(book: Path, csv: Path) -> None:
    as_shown = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,true"
    profile = f"-env:UserInstallation={csv.parent.as_uri()}/profile"
    _run("soffice", profile, "--headless", "--convert-to", as_shown, "--outdir", str(csv.parent), str(book))


def _by_gnumeric(book: Path, csv: Path) -> None:
    _run("ssconvert", "-T", "Gnumeric_stf:stf_assistant", "-O", "format=preserve separator=,", str(book), str(csv))


def _by_sheetjs(book: Path, csv: Path) -> None:
    code = (
        "const x = require('xlsx'), b = x.readFile(process.argv[1], {cellText: true, cellNF: true});"
        "require('fs').writeFileSync(process.argv[2], x.utils.sheet_to_csv(b.Sheets[b.SheetNames[0]]))"
    )
    _run_node("xlsx", code, book, csv)


def _run_node(library: str, code: str, *arguments: Path) -> None:
    if (
        shutil.which("node") is None
        or subprocess.run(["node", "-e", f"require('{library}')"], check=False, capture_output=True).returncode
    ):
        pytest.skip(f"{library} (npm install {library}, NODE_PATH) is not installed")
    _run("node", "-e", code, *map(str, arguments))


def _run(program: str, *arguments: str) -> None:
    if (found := shutil.which(program)) is None:
        pytest.skip(f"{program} is not installed")
    subprocess.run(
        [found, *arguments], check=True, capture_output=True, timeout=120, env={**os.environ, "LC_ALL": "en_US.UTF-8"}
    )


def _by_xlsxwriter(_: Path, path: Path, cases: Sequence[tuple[object, str, str]]) -> None:
    book: Any = xlsxwriter.Workbook(str(path))
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, ["destination", "x"])
    for row, (value, code, _text) in enumerate(cases, 1):
        sheet.write_string(row, 0, f"+{ANA + row + 1}")
        sheet.write(row, 1, value, book.add_format({"num_format": code}))
    book.close()


def _by_exceljs(book: Path, path: Path, _: object) -> None:
    code = (
        "const book = new (require('exceljs').Workbook)(); book.xlsx.readFile(process.argv[1])"
        ".then(() => book.xlsx.writeFile(process.argv[2]))"
    )
    _run_node("exceljs", code, book, path)


@pytest.mark.slow
@pytest.mark.parametrize("save", [_by_xlsxwriter, _by_exceljs])
def test_a_list_that_a_library_writes_speaks_the_same(tmp_path: Path, save: Callable[..., None]) -> None:
    kept = [
        case for case in SHOWN if "\\" not in case[1]
    ]  # exceljs loses backslashes, so that its cells show otherwise
    book = shown_in(tmp_path, kept)
    save(book, path := tmp_path / "written.xlsx", kept)
    assert heard(path) == heard(book)


@pytest.mark.slow
def test_a_list_that_a_program_writes_again_speaks_the_same(tmp_path: Path) -> None:
    book = shown_in(tmp_path, SHOWN)
    profile = f"-env:UserInstallation={tmp_path.as_uri()}/profile"
    _run("soffice", profile, "--headless", "--convert-to", "xlsx", "--outdir", str(tmp_path / "out"), str(book))
    _run("ssconvert", str(book), str(tmp_path / "gnumeric.xlsx"))
    assert heard(tmp_path / "out" / book.name) == heard(tmp_path / "gnumeric.xlsx") == heard(book)


@pytest.mark.slow
@pytest.mark.parametrize("save", [_by_libreoffice, _by_gnumeric, _by_sheetjs])
def test_a_list_that_a_program_saves_as_csv_speaks_the_same(tmp_path: Path, save: Callable[[Path, Path], None]) -> None:
    book = shown_in(tmp_path, SHOWN)
    save(book, csv := tmp_path / "people.csv")
    assert csv.is_file()
    as_shown = (" ".join(str(text).replace("\u2212", "-").split()) for text in heard(csv))
    assert list(as_shown) == heard(book)
