"""The formats of files: which one a file has, and the reader of workbooks (.xlsx)."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, time, timedelta
from functools import partial
from itertools import islice
from typing import cast

from voiceflow_worker.campaigns.files.cells import (
    cell_text,
    message_line,
    missing_library,
    table_row,
)
from voiceflow_worker.campaigns.files.csv_rows import CsvRows
from voiceflow_worker.campaigns.files.input_file import (
    WORKBOOK,
    InputFile,
    read_lines,
    refuse_other_content,
    unreadable,
)
from voiceflow_worker.campaigns.files.json_rows import JsonDocument, JsonLines, read_json
from voiceflow_worker.campaigns.files.number_formats import Shown
from voiceflow_worker.campaigns.files.rows import (
    CALLS,
    ColumnReader,
    FileKind,
    Mark,
    RawRow,
    RowSource,
    row_name,
)
from voiceflow_worker.campaigns.files.spreadsheet import Sheet, Spreadsheet, SpreadsheetError
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding, SheetRow, ranges_text, tell
from voiceflow_worker.model.flows.values import EXACT
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.model.text.wording import count_of

_MOST_TEXTS = 500_000_000
"""The largest size of the table of texts, in bytes. It is the only part of a workbook that has to be in memory."""

_SUSPICIOUS_BYTES, _SUSPICIOUS_RATIO = 100_000_000, 200
"""The largest unpacked size of a part of a workbook, in bytes, and the largest ratio to its packed size.

What is above both limits is refused: it may be a bomb. Ordinary sheets unpack to 5 to 30 times their size."""

_NOON = 12
_MOST_NAMED = 12
"""The largest number of ranges of hidden rows that a warning names."""


class ExcelRows(RowSource):
    """The rows of a sheet. The constructor reads the header: `header_row`, or the first row that is not empty.

    If no `sheet` is named, exactly one visible sheet must have rows. Raises CampaignFileError.
    """

    kind = FileKind.EXCEL

    def __init__(
        self,
        file: InputFile,
        *,
        sheet: str | None = None,
        columns: ColumnReader = CALLS,
        header_row: int | None = None,
    ) -> None:
        self._file = file
        with self._workbook() as book:
            chosen = self._chosen(book, sheet)
            self.sheet: str = chosen.name
            self._place = f"{file}, sheet {self.sheet}"
            first = None
            for row in book.rows(chosen):
                if row.number >= (header_row or 1):
                    first = row
                    break
                self._pass_over(row.number, [str(value) for value in row.values if value is not None])
            if header_row is not None and (first is None or first.number != header_row):
                raise CampaignFileError(
                    f"{self._place}: row {header_row} is empty, and is to be the header; name another"
                )
            if first is None:
                raise CampaignFileError(
                    f"{self._place} is empty; it needs a header row with a column named destination"
                )
            self.header: tuple[str, ...] = tuple(map(self._name, first.values))
        self.header_row: int | None = first.number
        self.columns: tuple[str, ...] = columns.names(self.header, place=self._place)
        self.numbers: frozenset[str] = frozenset(each for each in self.columns if row_name(each) in columns.numbers)
        if sheet is None:
            self.notes: tuple[str, ...] = _hidden_lists(
                self, partial(ExcelRows, file, columns=columns, header_row=header_row)
            )

    def __iter__(self) -> Iterator[RawRow]:
        width = len(self.columns)
        marked: dict[Mark, list[int]] = {Mark.HIDDEN: [], Mark.STRUCK: []}
        hidden_times = _HiddenTimes()
        with self._workbook() as book:
            numbers = {place for place, name in enumerate(self.columns) if name in self.numbers}
            chosen = self._chosen(book, self.sheet)
            for each in book.rows(chosen):
                number, values = each.number, each.values
                if number <= (self.header_row or 0):
                    continue
                mark = each.mark(numbers)
                if mark is not None and mark in marked:
                    marked[mark].append(number)
                cells = [*values, *[None] * (width - len(values))]
                hidden_times.add(number, cells[:width])
                yield table_row(self, number, cells, _text)._replace(mark=mark)
        found = (_left_out(self.sheet, mark, rows) for mark, rows in marked.items())
        self.notes = (*self.notes, *filter(None, found))
        for place, row_number, problem in hidden_times.problems():
            if self.columns[place] and self.columns[place] not in self.spare:
                wrong = Finding(file=str(self._file), row=row_number, column=self.header[place], message=problem)
                raise CampaignFileError(f"{self._place}, row {row_number}: {self.header[place]} {problem}", [wrong])

    @contextmanager
    def _workbook(self) -> Generator[Spreadsheet]:
        """Open the file. Whatever a library raises for a damaged one becomes a CampaignFileError."""
        file, what = self._file, "an Excel workbook (.xlsx)"
        try:
            with file.opened_raw() as reader:
                refuse_other_content(file, reader, WORKBOOK)
                with zipfile.ZipFile(reader) as archive:
                    self._refuse_bomb(archive.infolist())
                    yield Spreadsheet(archive, size=file.size, voice=self.voice)
        except SpreadsheetError as error:
            raise CampaignFileError(f"{file} {error}") from None
        except (CampaignFileError, MemoryError):
            raise
        except ImportError:
            raise missing_library(f"{file} is {what}, which") from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # else it is one of a library
                raise unreadable(file, error) from error
            shown = f"{file} is not {what}, or it is damaged: {message_line(error)}"
            raise CampaignFileError(f"{shown}; open it in Excel and save it again") from error

    def _refuse_bomb(self, parts: Sequence[zipfile.ZipInfo]) -> None:
        for part in parts:
            too_dense = part.file_size > _SUSPICIOUS_RATIO * max(part.compress_size, 1)
            if too_dense and part.file_size > _SUSPICIOUS_BYTES:
                raise CampaignFileError(
                    f"{part.filename} in {self._file} unpacks to {part.file_size} bytes, more than {_SUSPICIOUS_RATIO} "
                    "times its packed size, too much for a list of calls; save the sheet as CSV"
                )
            if part.filename.endswith("sharedStrings.xml") and part.file_size > _MOST_TEXTS:
                raise CampaignFileError(
                    f"{self._file} has {part.file_size} bytes of texts, and {_MOST_TEXTS} fit in memory; save the "
                    "sheet as CSV"
                )

    def _chosen(self, book: Spreadsheet, wanted: str | None) -> Sheet:
        filled = [sheet for sheet in book.sheets if sheet.is_visible and next(book.rows(sheet), None) is not None]
        self.sheets: tuple[str, ...] = tuple(sheet.name for sheet in filled)
        self.hidden_sheets: tuple[str, ...] = tuple(sheet.name for sheet in book.sheets if not sheet.is_visible)
        if wanted is not None:
            found = [sheet for sheet in book.sheets if sheet.name.casefold() == wanted.strip().casefold()]
            if not found:
                names = ", ".join(sheet.name for sheet in book.sheets)
                raise CampaignFileError(
                    f"{self._file} has no sheet {wanted!r}; its sheets: {names}", sheets=self.sheets
                )
            return found[0]
        if len(filled) > 1:
            names = ", ".join(self.sheets)
            raise CampaignFileError(tell("several_sheets", file=str(self._file), sheets=names), sheets=self.sheets)
        if not filled:
            raise CampaignFileError(f"{self._file} is empty: its visible sheets have no rows")
        return filled[0]

    def _name(self, value: object) -> str:
        try:
            return _text(value)
        except ValueError as error:
            raise CampaignFileError(f"{self._place}: the header {error}") from None


ALL_SHEETS = "*"
"""In place of the name of a sheet: all sheets with rows, as one list."""


class SheetsAsOne(RowSource):
    """The rows of all visible sheets of a workbook, whose headers agree. Raises CampaignFileError."""

    kind = FileKind.EXCEL

    def __init__(
        self,
        file: InputFile,
        *,
        columns: ColumnReader = CALLS,
        header_row: int | None = None,
    ) -> None:
        opened = partial(ExcelRows, file, columns=columns, header_row=header_row)
        try:
            self._parts = [opened()]
        except CampaignFileError as error:
            if not error.sheets:
                raise
            self._parts = [opened(sheet=name) for name in error.sheets]
        first = self._parts[0]
        for other in self._parts[1:]:
            if _written(other.header) != _written(first.header):
                raise CampaignFileError(
                    f"{file}: the sheet {other.sheet} has the columns {', '.join(filter(None, other.header))}, and "
                    f"{first.sheet} has {', '.join(filter(None, first.header))}: give both the same header, or name "
                    "one sheet",
                    sheets=first.sheets,
                )
        self.header: tuple[str, ...] = first.header
        self.header_row: int | None = first.header_row
        self.columns: tuple[str, ...] = first.columns
        self.numbers: frozenset[str] = first.numbers
        self.above: Sequence[tuple[int, Sequence[str]]] = first.above
        self.sheets: tuple[str, ...] = first.sheets
        if len(self._parts) > 1:  # else its only part tells them
            self.notes: tuple[str, ...] = _hidden_lists(first, opened)

    def __iter__(self) -> Iterator[RawRow]:
        for place, part in enumerate(self._parts):
            for name in ("columns", "numbers", "spare", "clocks", "moments", "counted", "voice"):
                setattr(part, name, getattr(self, name))
            for row in part:
                yield row._replace(number=SheetRow(place, part.sheet, row.number))
            self.notes = (*self.notes, *part.notes)


def _hidden_lists(shown: ExcelRows, opened: Callable[..., ExcelRows]) -> tuple[str, ...]:
    """That hidden sheets, with the header of a sheet that is read, are not read."""
    found: list[str] = []
    for name in shown.hidden_sheets:
        with suppress(CampaignFileError):
            if _written(opened(sheet=name).header) == _written(shown.header):
                found.append(tell("hidden_sheet", sheet=name))
    return tuple(found)


def _written(header: Sequence[str]) -> list[str]:
    names = list(map(row_name, header))
    while names and not names[-1]:
        names.pop()
    return names


class _HiddenTimes:
    """The times of day behind cells that show days alone, by the places of their columns."""

    def __init__(self) -> None:
        self._times: dict[int, dict[time, tuple[int, datetime]]] = {}
        self._counts: Counter[int] = Counter()
        self._others: set[int] = set()
        """The columns with a moment that hides no time."""

    def add(self, number: int, cells: Sequence[object]) -> None:
        """Add a row."""
        for place, cell in enumerate(cells):
            if isinstance(cell, Shown) and (hidden := cell.hidden_time) is not None:
                self._times.setdefault(place, {}).setdefault(hidden, (number, cast("datetime", cell.value)))
                self._counts[place] += 1
            elif isinstance(cell, date | time | Shown):
                self._others.add(place)

    def problems(self) -> Iterator[tuple[int, int, str]]:
        """The place of each column that hides one time in all rows, or two by summer time, with a row and what is told.

        Such a time is midnight in another zone.
        """
        for place, times in self._times.items():
            apart = (max(times).hour - min(times).hour) % 24 in {0, 1} and len({each.minute for each in times}) == 1
            if place in self._others or self._counts[place] < 2 or len(times) > 2 or not apart:
                continue
            at, (number, value) = next(iter(times.items()))
            meant = value.date() + timedelta(days=at.hour >= _NOON)
            told = (
                f"shows {value.date()} and hides {at:%H:%M} behind it, as all of its cells do: a program has probably"
            )
            told = f"{told} written midnight of another time zone, and {meant} is meant. Write days as texts"
            yield place, number, f"{told}, or without a time"


def _left_out(sheet: str, mark: Mark, rows: Sequence[int]) -> str | None:
    """Say how many rows of a sheet are left out, and which."""
    if not rows:
        return None
    are = f"{count_of(len(rows), 'row')} of the sheet {sheet} {'is' if len(rows) == 1 else 'are'} {mark}"
    return f"{are}, and left out: {ranges_text(rows, most=_MOST_NAMED)}"


def _text(value: object) -> str:
    match value:
        case Shown():
            return value.text
        case str() if (problem := storing_problem(value)) is not None:
            raise ValueError(problem)
        case bool():
            return cell_text(value)
        case int() if abs(value) >= EXACT:
            raise ValueError(
                f"holds a number of more than 15 digits ({value}), but Excel keeps only 15; write it as text"
            )
        case datetime():
            # Excel stores times as fractions of days, so their seconds have a rounding error.
            rounded = value + timedelta(milliseconds=500)
            return cell_text(rounded.replace(microsecond=0))
        case time():
            return cell_text(value.replace(microsecond=0))
        case _:
            return cell_text(value)


_BY_SUFFIX = {
    ".csv": FileKind.CSV,
    ".tsv": FileKind.CSV,
    ".jsonl": FileKind.JSON_LINES,
    ".ndjson": FileKind.JSON_LINES,
    ".json": FileKind.JSON,
    ".json5": FileKind.JSON,
    ".jsonc": FileKind.JSON,
    ".xlsx": FileKind.EXCEL,
    ".xlsm": FileKind.EXCEL,
}


def open_source(
    file: InputFile,
    *,
    kind: FileKind | None = None,
    sheet: str | None = None,
    columns: ColumnReader = CALLS,
    header_row: int | None = None,
) -> RowSource:
    """The rows of a file. `kind` is the format, detected by default, and `sheet` is the sheet of a workbook, or `*`.

    The columns of a table are named by `columns`, and `header_row` is the line or row of its header. Raises
    CampaignFileError if the file cannot be read.
    """
    kind = kind or kind_of(file)
    if sheet is not None and kind is not FileKind.EXCEL:
        raise CampaignFileError(f"{file} has no sheet {sheet!r}: only workbooks have sheets")
    if header_row is not None and kind not in {FileKind.CSV, FileKind.EXCEL}:
        raise CampaignFileError(f"{file} has no row of a header: only CSV files and workbooks have one")
    match kind:
        case FileKind.CSV:
            return CsvRows(file, columns=columns, header_row=header_row)
        case FileKind.JSON_LINES:
            return JsonLines(file)
        case FileKind.JSON:
            return JsonDocument(file)
        case FileKind.EXCEL:
            if sheet is not None and sheet.strip() == ALL_SHEETS:
                return SheetsAsOne(file, columns=columns, header_row=header_row)
            return ExcelRows(file, sheet=sheet, columns=columns, header_row=header_row)


def kind_of(file: InputFile) -> FileKind:
    """The format of a file, by its name, or else by its content. Raises CampaignFileError if it cannot be read."""
    if file.path is not None and file.path.is_fifo():  # what is read once to know the format would be lost
        raise CampaignFileError(f"{file} is a pipe, whose rows can be read only once: give it as standard input (-)")
    known = _BY_SUFFIX.get(file.suffix)
    if known is not None:
        return known
    with file.opened() as reader:
        if reader.peek(4)[:4] == b"PK\x03\x04":
            return FileKind.EXCEL
    first = [text for _, text, _ in islice(read_lines(file, is_table=True), 50) if text.strip()]
    if not first or not first[0].lstrip().startswith(("{", "[", "//", "/*")):
        return FileKind.CSV
    try:
        read_json(first[0])
    except ValueError:
        return FileKind.JSON
    return FileKind.JSON_LINES if len(first) > 1 else FileKind.JSON
