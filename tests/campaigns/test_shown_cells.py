"""Cells as the programs show them that have escaped them, and dates that nobody means: the same in every form."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.forms import ANA, READERS, Reader, errors_of, from_csv, from_workbook, in_forms, spoken, written
from tests.campaigns.reading import OPTIONS, Row, calls_of, file_of, read_all, saying, text_of
from tests.campaigns.workbooks import changed, workbook
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.files.damage import shown
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.campaigns.report_files import harmless
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.finding import Severity
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.times import DateOrder, doubtful_year

BEN = "+6587654322"

ESCAPED = [
    ('="Ana"', "Ana"), ('="0042"', "0042"), ('= "0042"', "0042"), ('="=1+1"', "=1+1"), ('="say ""hi"""', 'say "hi"'),
    ('=T("0042")', "0042"), ('=HYPERLINK("https://crm.example/1","Ana")', "Ana"),
    ("'-3.00", "-3.00"), ("'@Ben", "@Ben"), ("'+49 151", "+49 151"), ("'=1+1", "=1+1"), ("'0042", "0042"),
    ("'09:00", "09:00"), ("'=\"0042\"", "0042"), ("x; '@y", "x; '@y"), ("x;'@y", "x;@y"),
]  # fmt: skip
MARKED_UP = [
    ("O&#039;Brien", "O'Brien"), ("O&#x27;Brien", "O'Brien"), ("J&uuml;rgen", "Jürgen"), ("Tom &amp; Ben", "Tom & Ben"),
    ("Tom &amp;amp; Ben", "Tom & Ben"), ("5 &lt; 6", "5 < 6"), ("Ana&nbsp;Maria", "Ana Maria"),
    ("Bed &amp;#39;n&amp;#39; Bath", "Bed 'n' Bath"), ("&quot;Ana&quot;", '"Ana"'), ("&zcaron;ena", "žena"),
    ("<p>Bring it<br>now</p>", "Bring it, now"), ("<p>Bring it.<br />Now!</p><p>Ben</p>", "Bring it. Now! Ben"),
    ("<ul><li>ID</li><li>Card</li></ul>", "ID, Card"), ("<b>A</b>na", "Ana"), ("A<span style='x'>n</span>a", "Ana"),
    ('<a href="tel:123">Call</a> us', "Call us"), ("Hi<!-- note --> <style>p { }</style>Ana", "Hi Ana"),
    ("&lt;p&gt;Ana&lt;/p&gt;", "Ana"), ('<div class="x" dir="auto">Ana</div>', "Ana"),
]  # fmt: skip
MEANT = [
    "a < b", "I <3 you", "<x@y.example>", "AT&T", "R&D; Sales", "Q&A", "a<b and c>d",
    "x<y>z", "1 < 2 > 1", "'s-Hage", "'t Hooft",
    "'@Ben'", "'quoted'", "O'Brien", "=", "=1+1", "=)", "a=b", "&", "&#;", "&unknown;", "<", "<>", "'", "''",
]  # fmt: skip
UNSEEN = [
    ("2:30\u202fPM", "2:30 PM"), ("\u200e2:30 PM", "2:30 PM"), ("\u200f2:30\u00a0PM", "2:30 PM"),
    ("\ufeff14:30", "14:30"), ("\u061c14:30", "14:30"), ("14:30\u200e", "14:30"), ("\u206814:30\u2069", "14:30"),
]  # fmt: skip


def test_a_cell_is_read_as_it_is_shown() -> None:
    for cell, meant in [*ESCAPED, *MARKED_UP, *UNSEEN, *((each, each) for each in MEANT)]:
        assert shown(cell) == meant
        assert shown(f" {cell}\n") == meant
    for joined in ("Zu\u0308rich", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"):
        assert shown(joined) == joined


def test_it_is_so_in_every_form(tmp_path: Path) -> None:
    cells = [*ESCAPED, *MARKED_UP, *((each, each) for each in MEANT if each != "=")]
    for reader, (cell, meant) in in_forms(cells):
        # CSV files have quotes around what has quotes or delimiters in it.
        given_cell = '"{}"'.format(cell.replace('"', '""')) if reader is from_csv else cell
        if reader is from_workbook and cell.startswith("="):
            continue  # openpyxl would write a formula
        row = {"destination": ANA, "x": given_cell}
        assert spoken(reader(tmp_path, row, saying("It is {{x}}."))) == [f"It is {meant}."]


def call_of(reader: Reader, folder: Path, options: CampaignOptions, **cells: object) -> CheckedCall:
    """The call of a row with these cells."""
    (call,) = calls_of(reader(folder, {"destination": ANA, **cells}, options))
    return call


@pytest.mark.parametrize("reader", READERS)
def test_numbers_to_call_are_read_so_too(tmp_path: Path, reader: Reader) -> None:
    for cell in ("'+6587654321", "&#43;6587654321", "\u202a+65\u00a08765\u202f4321\u202c", "'+65 8765 4321"):
        assert call_of(reader, tmp_path, saying("Hello."), destination=cell).destination == ANA
        assert call_of(reader, tmp_path, saying("Hello."), source=cell).source == ANA
    table = f'phone\n"=""{ANA}"""\n\'{BEN}\n'
    assert set(read_number_file(file_of(tmp_path, table)).numbers) == {ANA, BEN}


@pytest.mark.parametrize("reader", READERS)
def test_times_and_dates_with_signs_that_nobody_sees_are_read(tmp_path: Path, reader: Reader) -> None:
    english = saying("At {{x|time}}.", voice_profile="en-US-JennyNeural")
    for cell, _ in UNSEEN:
        assert text_of(call_of(reader, tmp_path, english, x=cell)) == "At 2:30 PM."
    options = saying("On {{day|date}}.", date_order=DateOrder.DMY)
    for mark in "\u200e\u200f\u061c\ufeff\u00a0\u202f":
        at = f"{mark}2030-01-31 09:00+08:00"
        found = call_of(reader, tmp_path, options, day=f"{mark}31/01/2030{mark}", not_before=at)
        assert text_of(found) == "On 31 January 2030."
        assert str(found.not_before) == "2030-01-31 01:00:00+00:00"


@given(st.text('=+-@ab1;|\t\n\uff1d "', max_size=12).map(str.strip))
def test_what_our_own_report_guards_is_read_back(cell: str) -> None:
    assert shown(harmless(cell)) == shown(cell)


def test_html_is_told_once_for_a_column(tmp_path: Path) -> None:
    rows = ("A<br>B", "&amp;"), ("C", "Tom &amp; Ben"), ("a < b", "R&D"), ("<p>D</p>", "")
    given: list[Row] = [{"destination": f"+6587654{321 + n}", "x": x, "y": y} for n, (x, y) in enumerate(rows)]
    reading = read_all(written(tmp_path, given, "csv"), saying("{{x}}"))
    assert reading.heard == ["A, B", "C", "a < b", "D"]
    x, y = reading.closing
    assert (x.column, x.row, x.severity) == ("x", 2, Severity.WARNING)
    assert x.message.endswith("row 2, 'A<br>B', is read as 'A, B'")
    for each in (x, y):
        assert each.message.startswith("has HTML of another program in 2 rows")


@pytest.mark.parametrize("reader", READERS)
def test_a_header_in_decomposed_unicode_is_the_same_column(tmp_path: Path, reader: Reader) -> None:
    for name in ("prénom", "straßenname_größe", "имя_йод"):
        apart, joined = unicodedata.normalize("NFD", name), unicodedata.normalize("NFC", name)
        for header, text in product((apart, joined), repeat=2):
            found = call_of(reader, tmp_path, saying(f"Hello {{{{{text}}}}}."), **{header: "Ana"})
            assert text_of(found) == "Hello Ana."
    options = saying("Hello.", columns={"destination": "téléphone"})
    (call,) = calls_of(reader(tmp_path, {unicodedata.normalize("NFD", "téléphone"): ANA}, options))
    assert call.destination == ANA


@pytest.mark.parametrize("reader", READERS)
def test_empty_columns_do_not_count_to_the_size_of_a_row(tmp_path: Path, reader: Reader) -> None:
    many = {f"a_column_that_nobody_fills_{n}": "" for n in range(400)}
    for more, data in ((many, {"name": "Ana"}), ({"note": ""}, {"name": "Ana", "note": ""})):
        assert call_of(reader, tmp_path, saying("Hello {{name}}."), name="Ana", **more).data == data


REFUSED = ["0001-01-01", "1753-01-01", "1899-12-30", "1900-01-01", "2573-01-31", "9999-12-31", "1447-05-06", "2200-1-1"]
TOLD = ["1970-01-01", "1969-12-31", "1904-01-01", "1905-03-01", "2150-05-05"]


def test_the_years_that_nobody_means() -> None:
    for day in REFUSED:
        found = doubtful_year(f"{day} 09:00")
        assert found is not None
        assert not found.may_be_meant
    for day in TOLD:
        found = doubtful_year(day)
        assert found is not None
        assert found.may_be_meant
    for text in ("31/01/2573", "31.1.2573", "1/0/1900", "on 2573/1/31"):
        assert doubtful_year(text) is not None
    for year in range(1910, 2100):
        for day in (f"{year}-01-31", f"31/01/{year} 9:00", f"1.2.{year}"):
            assert doubtful_year(day) is None
    for text in ("0800-12-34567", "1800-555-0199", "+65 8765 4321", "2573", "No. 2573-1", "10.1.2.2573", "31/01/30"):
        assert doubtful_year(text) is None


def test_a_spoken_date_of_such_a_year_is_a_finding(tmp_path: Path) -> None:
    for reader, day in in_forms(REFUSED):
        for text in ("Come {{day|date}}.", "Come {{day}}.", "{% if day %}Come {{day}}.{% endif %}"):
            if "|" in text and day == "2200-1-1":
                continue  # no date of the form that the filter reads
            (error,) = errors_of(reader, tmp_path, saying(text), day=day)
            assert error.startswith(f"day: has {day!r}, ")
        unspoken = saying("Come.{% if n == 1 %}{% if day != 'x' %} Now.{% endif %}{% endif %}")
        assert errors_of(reader, tmp_path, unspoken, day=day, n="1") == []
    (error,) = errors_of(from_csv, tmp_path, saying("Come {{day|date}}."), day="2573-01-31")
    assert error.endswith("probably a year of the Buddhist calendar: write 2030-01-31")
    for reader, day in in_forms(TOLD):
        (read_row,) = reader(tmp_path, {"destination": ANA, "day": day}, saying("Born {{day|date}}."))
        ((column, severity),) = [(each.column, each.severity) for each in read_row.findings]
        assert (column, severity, read_row.call is not None) == ("day", Severity.WARNING, True)
    for column, day in product(("not_before", "valid_until"), ("2573-01-31", "1970-01-01", "9999-12-31")):
        (error,) = errors_of(from_csv, tmp_path, saying("Hello."), **{column: f"{day}T09:00:00Z"})
        assert error.startswith(column)
    menu = Menu("ask", prompt="Press 1.", voice_profile="v")
    menu.on("1", goto="Come {{day}}.")
    later = replace(OPTIONS, template=None, menu=menu, batch_id="b")
    (error,) = errors_of(from_csv, tmp_path, later, day="2573-01-31")
    assert error.startswith("day: ")


def test_a_voice_of_thai_says_its_own_year_as_it_is_written() -> None:
    row = {"destination": ANA, "day": "31/01/2573", "voice_profile": "th-TH-PremwadeeNeural"}
    assert read_all([row], saying("{{day}}")).errors == []
    (error,) = read_all([row], saying("{{day|date}}", date_order=DateOrder.DMY)).errors
    assert error.startswith("day: ")


def test_a_cell_of_a_workbook_that_holds_0_as_a_date_is_none(tmp_path: Path) -> None:
    book = workbook(tmp_path, [["destination", "day", "at"], [ANA, 0, time(0, 0)]])
    path = changed(book, lambda sheet: setattr(sheet["B2"], "number_format", "dd/mm/yyyy"))
    (error,) = read_all(path, saying("Come {{day|date}} at {{at|time}}.")).errors
    assert error.startswith("day: has '1899-12-30',")


MIXED: list[tuple[Sequence[object], bool]] = [
    ([date(2026, 4, 3), "13/04/2026"], True),
    (["13/04/2026", datetime(2026, 4, 3, 9, 0)], True),  # noqa: DTZ001
    (["2026-04-03", "03/05/2026"], True),
    (["2026-04-03 09:00", "2026-04-13", "1.5.2026 9:00"], True),
    (["13/04/2026", "03/05/2026"], False),
    ([date(2026, 4, 3), date(2026, 4, 13)], False),
    ([date(2026, 4, 13), date(2026, 4, 4), "03/04/2026"], False),  # these have been read right in any order
    ([date(2026, 4, 3), "soon", ""], False),
]


@pytest.mark.parametrize(
    ("form", "column"),
    [("csv", "day"), ("xlsx", "day"), ("jsonl", "day"), ("rows", "day"), ("csv", "not_before"), ("rows", "born")],
)
def test_dates_and_texts_of_another_order_in_one_column_are_refused(tmp_path: Path, form: str, column: str) -> None:
    for days, is_refused in MIXED:
        rows: list[Row] = [
            {"destination": f"{ANA[:-2]}{n:02}", "time_zone": "UTC", "day": "", column: day}
            for n, day in enumerate(days)
        ]
        given = written(tmp_path, rows, form)
        for order in (DateOrder.DMY, DateOrder.MDY, DateOrder.YMD):
            found = read_all(given, saying("Come {{day}}.", date_order=order)).closing
            wrong = [each for each in found if each.is_error]
            # Nothing says when somebody was born.
            assert bool(wrong) is (is_refused and column != "born" and order is not DateOrder.YMD)
            for each in wrong:
                assert (each.column, each.row is not None) == (column, True)
                assert "2026-04-03" in each.message
                assert "2026-03-04" in each.message
