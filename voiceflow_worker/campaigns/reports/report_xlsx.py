"""A report as an Excel workbook: the calls, a sheet of totals, and a sheet for each table."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.files.rows import whole_file
from voiceflow_worker.campaigns.reports.report_csv import LineSpool, ReportColumn
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.call_json import CallResult
from voiceflow_worker.model.text.printable import printable
from voiceflow_worker.model.text.wording import in_words, zone_words
from voiceflow_worker.reporting.report import Report, ReportTable, Share, tables_of, totals_table

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

MOST_ROWS = 1_048_575
"""The largest number of calls on one sheet below its header, by the limit of Excel. More calls go on more sheets."""

_NUMBERS = frozenset({"code", "seconds", "billed_seconds", "attempt"})
_TIMES = frozenset({"started_at", "ended_at", "created_at", "valid_until"})
_DATE = re.compile(r"(?:19|[2-9]\d)\d\d-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?", re.ASCII)  # Excel begins at 1900
_ANSWER, _PROBLEM = "answer", "problem"
_COLOURS: Mapping[object, str | None] = {
    **dict.fromkeys(CallResult),
    CallResult.ANSWERED: _ANSWER,
    CallResult.DESK_BUSY: "look",
    CallResult.IN_DOUBT: "look",
    CallResult.NO_KEY: "look",
    CallResult.WRONG_KEY: "look",
    CallResult.FAILED: _PROBLEM,
    CallResult.OPTED_OUT: _PROBLEM,
}
"""The colours of results: no colour for people who were not reached. A result that is not listed is a named answer."""
_MOST_DIGITS = 15
"""The largest number of digits that Excel keeps of a number."""


def needs_xlsxwriter() -> None:
    """Raise InvalidInputError, with the remedy, if the library that writes Excel files is not installed."""
    if find_spec("xlsxwriter") is None:
        raise InvalidInputError(
            "Excel files need XlsxWriter: pip install 'voiceflow-worker[files]'; --csv works without it"
        )


def write_xlsx_report(path: Path, reports: Sequence[Report], spool: LineSpool, *, at: datetime) -> Generator[int]:
    """Write the workbook, dated `at`.

    Each step of the generator writes some calls, and yields the number of calls that are written. Texts are written as
    texts, so that Excel does not run them as formulas or read them as numbers. The file gets its name when it is
    complete. If the generator is closed earlier, a file that was there stays unchanged. Raises OSError.
    """
    from xlsxwriter import Workbook
    from xlsxwriter.exceptions import FileCreateError

    # The rows are kept in temporary files: a million calls need no more memory than one call.
    with whole_file(path) as unfinished, TemporaryDirectory() as folder:
        options = {"constant_memory": True, "tmpdir": folder, "use_zip64": True}
        book = Workbook(str(unfinished), options)
        sheets = _Sheets(book)
        try:
            yield from _calls(sheets, spool)
            sheets.table(
                totals_table(reports), name="Totals", note=f"as of {in_words(at, spool.zone)}", zone=spool.zone
            )
            for table in tables_of(reports):
                sheets.table(table, name=table.title)
            book.close()
        except FileCreateError as error:
            raise error.args[0] from error
        finally:
            for sheet in book.worksheets():
                sheet.row_data_fh.close()


def _calls(sheets: _Sheets, spool: LineSpool) -> Generator[int]:
    columns = spool.columns
    headings = [column.heading for column in columns]
    count, row, number = 0, 0, 1
    sheet = sheets.calls(headings, number=number)
    for pack in spool.packs():
        for line in pack:
            if row == MOST_ROWS:
                sheet.autofilter(0, 0, row, len(columns) - 1)
                row, number = 0, number + 1
                sheet = sheets.calls(headings, number=number)
            row += 1
            for place, column in enumerate(columns):
                value = _value(column, column.of(line))
                colour = None if column.is_own or column.name != "result" else _COLOURS.get(value, _ANSWER)
                sheets.cell(sheet, row, place, value, colour=colour)
        count += len(pack)
        yield count
    sheet.autofilter(0, 0, row, len(columns) - 1)


def _value(column: ReportColumn, value: object) -> object:
    """The number or the time in a field, else its text."""
    if not isinstance(value, str):
        return value
    if column.is_own:
        return _date_in(value) if _DATE.fullmatch(value) else value
    if column.name in _NUMBERS or column.name == "price":
        try:
            return float(value)
        except ValueError:
            return value
    return datetime.fromisoformat(value) if value and column.name in _TIMES else value


def _date_in(text: str) -> object:
    """The date, or the date and time, in a cell of the campaign's file; the text if there is no such day or time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment if len(text) > len("2030-01-31") else moment.date()


class _Sheets:
    """The sheets of a workbook, and the formats of their cells."""

    def __init__(self, book: Workbook) -> None:
        self._book = book
        self._formats: dict[str, Format] = {
            "header": book.add_format({"bold": True, "bottom": 1}),
            # Marks a text as if it was typed with an apostrophe: it stays a text when the cell is edited.
            "quoted": book.add_format({"quote_prefix": True}),
            "percent": book.add_format({"num_format": "0.0%"}),
            "duration": book.add_format({"num_format": "[h]:mm:ss"}),
            "day": book.add_format({"num_format": "yyyy-mm-dd"}),
            "time": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            # The colours that Excel itself offers as good, neutral and bad.
            _ANSWER: book.add_format({"bg_color": "#C6EFCE", "font_color": "#006100"}),
            "look": book.add_format({"bg_color": "#FFEB9C", "font_color": "#7F6000"}),
            _PROBLEM: book.add_format({"bg_color": "#FFC7CE", "font_color": "#9C0006"}),
        }

    def table(self, table: ReportTable, *, name: str, note: str | None = None, zone: ZoneInfo | None = None) -> None:
        """Add a sheet with a table."""
        sheet = self._sheet(name, [column.lstrip("#") for column in table.columns], width=22)
        sheet.set_column(0, 0, 40)
        for number, row in enumerate(table.rows, 1):
            for place, value in enumerate(row):
                self.cell(sheet, number, place, value)
        if note is not None:
            self.cell(sheet, len(table.rows) + 2, 0, f"{note}; all times are {zone_words(zone)}")

    def calls(self, columns: Sequence[str], *, number: int) -> Worksheet:
        """Add a sheet for calls."""
        return self._sheet("Calls" if number == 1 else f"Calls {number}", columns, width=18)

    def _sheet(self, name: str, columns: Sequence[str], *, width: int) -> Worksheet:
        sheet: Worksheet = self._book.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, len(columns) - 1, width)
        for place, column in enumerate(columns):
            sheet.write_string(0, place, printable(column), self._formats["header"])
        return sheet

    def cell(self, sheet: Worksheet, row: int, place: int, value: object, *, colour: str | None = None) -> None:
        """Write one value as a cell of its type. A number that Excel would round is written as text."""
        write = partial(sheet.write_number, row, place)
        match value:
            case None | "":
                pass
            case bool():
                sheet.write_boolean(row, place, value)
            case Share():
                write(value, self._formats["percent"])
            case int() | float() | Decimal() if len(str(value).strip("-0.").replace(".", "")) <= _MOST_DIGITS:
                write(float(value))
            case timedelta():
                write(value / timedelta(days=1), self._formats["duration"])
            case datetime():
                sheet.write_datetime(row, place, value.replace(tzinfo=None), self._formats["time"])
            case date():
                sheet.write_datetime(row, place, datetime(value.year, value.month, value.day), self._formats["day"])  # noqa: DTZ001
            case _:
                text = printable(str(value))
                form = "quoted" if text[0] in "=+-@\t\r\n" else colour
                sheet.write_string(row, place, text, None if form is None else self._formats[form])
