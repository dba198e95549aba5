"""Read the rows of a list: a CSV file, JSON lines, one request body, or the mappings of a program."""

from __future__ import annotations

import csv
import io
import pickle
import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import IO, Any, cast

import orjson

from voiceflow_worker.campaigns.lists.columns import is_number_column, number_in_name
from voiceflow_worker.campaigns.lists.input_file import (
    LARGEST_DOCUMENT,
    LARGEST_FILE,
    LONGEST_ROW,
    InputFile,
    encoding_of,
    read_text,
)
from voiceflow_worker.campaigns.lists.rows import FileKind, OpenList, Row, cell_text, refuse_quantity
from voiceflow_worker.campaigns.lists.workbook import WorkbookList
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import describe, exact_number, is_list, is_object
from voiceflow_worker.model.text.json_text import read_json, read_strict_json
from voiceflow_worker.model.text.wording import count_of, quoted

NOT_JSON, NO_CALL = -1001, -1013
"""The codes of 8x8 for a body that is not JSON, and for a body that does not begin with a call."""


_DELIMITERS = ",;\t|"


class CsvList(OpenList):
    """The rows of a CSV file. The constructor reads the header. Raises CampaignFileError.

    `header_row` is the line of the header, if it is not the first that is not empty.
    """

    kind = FileKind.CSV

    def __init__(self, file: InputFile, *, header_row: int | None = None, encoding: str | None = None) -> None:
        super().__init__()
        self._file, self._encoding = file, encoding_of(file, encoding)
        with closing(self._records(header_row or 1)) as records:
            begins, _, header = next(records, (0, 0, list[str]()))
        if not header:
            raise CampaignFileError(f"{file} is empty. Write a header line, with a column named destination, and rows.")
        if header_row is not None and begins != header_row:
            raise CampaignFileError(f"{file}: line {header_row} is empty, and is to be the header. Name another line.")
        self.header_row: int | None = begins
        self.header: tuple[str, ...] = tuple(header)

    def _lines(self) -> Iterator[str]:
        with self._file.opened() as reader:
            text = io.TextIOWrapper(reader, encoding=self._encoding, newline="")
            for number, line in enumerate(iter(partial(text.readline, LONGEST_ROW + 1), ""), 1):
                if len(line) > LONGEST_ROW:
                    raise CampaignFileError(f"{self._file}, line {number} has more than {LONGEST_ROW:,} characters.")
                yield line

    def _records(self, header_row: int) -> Generator[tuple[int, int, list[str]]]:
        """Yield the first and the last line of each record from the header on, and its cells."""
        lines, above = self._lines(), 0
        for line in lines:
            if above + 1 >= header_row and line.strip():
                break
            above += 1
        else:
            return
        self.delimiter: str = _delimiter_of(line)
        records = csv.reader(chain([line], lines), delimiter=self.delimiter, strict=True)
        while True:
            begins = above + records.line_num + 1
            try:
                cells = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                raise CampaignFileError(f"{self._file}, line {begins}: {_quote_problem(error)}") from None
            yield begins, above + records.line_num, cells

    def __iter__(self) -> Iterator[Row]:
        width, has_names = len(self.header), all(map(str.strip, self.header))
        for begins, ends, cells in islice(self._records(self.header_row or 1), 1, None):
            if not any(map(str.strip, cells)):
                continue  # spreadsheets leave empty rows behind
            if ends > begins:
                self._refuse_row_within(begins, cells)
            if len(cells) != width:
                yield Row(begins, tuple(cells), problems=((None, self._ragged(len(cells))),))
            else:
                yield Row(begins, tuple(cells)) if has_names else self._row(begins, cells)

    def _ragged(self, count: int) -> str:
        words = f"the row has {count_of(count, 'cell')}, and the header has {len(self.header)}"
        if count > len(self.header):
            return f"{words}. Put quotes around a cell that contains {self.delimiter!r}."
        return f"{words}. Write {self.delimiter!r} between all cells, also between empty ones."

    def _refuse_row_within(self, begins: int, cells: Sequence[str]) -> None:
        """Raise CampaignFileError for a cell with a line that looks like a row: an open quote has taken it in."""
        fewest = max(1, len(self.header) - 1)
        for cell in cells:
            if line := next((each for each in cell.splitlines()[1:] if each.count(self.delimiter) >= fewest), None):
                raise CampaignFileError(
                    f"{self._file}, line {begins}: a cell takes in the line {line[:40]!r}, which looks like a row. "
                    'Close the quote (") in front of it, or write the cell in one line.'
                )


def _quote_problem(error: csv.Error) -> str:
    if "expected after" in str(error):
        return 'a quote (") ends in the middle of a cell. Write "" for a quote in a cell.'
    return 'a quote (") is opened and not closed. Close it, or write "" for a quote in a cell.'


def _delimiter_of(line: str) -> str:
    outside = re.sub(r'"[^"]*"?', "", line)
    return max(_DELIMITERS, key=outside.count)


class JsonLines(OpenList):
    """The rows of a file with one JSON object on each line. Empty lines are left out."""

    kind = FileKind.JSON_LINES

    def __init__(self, file: InputFile) -> None:
        super().__init__()
        self._file = file
        self._encoding = encoding_of(file)

    def __iter__(self) -> Iterator[Row]:
        with self._file.opened() as reader:
            text = io.TextIOWrapper(reader, encoding=self._encoding)
            for number, line in enumerate(iter(partial(text.readline, LONGEST_ROW + 1), ""), 1):
                if len(line) > LONGEST_ROW:
                    raise CampaignFileError(f"{self._file}, line {number} has more than {LONGEST_ROW:,} characters.")
                if line.strip():
                    yield _object(number, line, "the line ", is_strict=True)


def _object(number: int, text: str, what: str, *, is_strict: bool) -> Row:
    try:
        value = read_strict_json(text) if is_strict else read_json(text)
    except ValueError as error:
        words = f"is not JSON: {error}" if isinstance(error, orjson.JSONDecodeError) else str(error)
        return Row(number, problems=((None, f"{what}{words}"),), code=NOT_JSON, text=text)
    if not is_object(value):
        problem = f"{what}holds {describe(value)}, not an object: write one call on each line of a file .jsonl"
        return Row(number, problems=((None, problem),), code=NO_CALL, text=text)
    return Row(number, tuple(value.values()), tuple(value))


class JsonDocument(OpenList):
    """The one row of a file that holds one request body, as the guides of 8x8 print it. Raises CampaignFileError."""

    kind = FileKind.JSON

    def __init__(self, file: InputFile) -> None:
        super().__init__()
        remedy = "write one object on each line, and name the file .jsonl"
        text = read_text(file, most_bytes=LARGEST_DOCUMENT, what="a JSON document", remedy=remedy)
        self._row_of_file = _object(1, text, "", is_strict=False)
        for _, problem in self._row_of_file.problems:
            found = Finding(file=str(file), message=problem, code=self._row_of_file.code)
            raise CampaignFileError(f"{file} {problem}", [found])

    def __iter__(self) -> Iterator[Row]:
        yield self._row_of_file


class GivenRows(OpenList):
    """Rows that a program gives as mappings. They are read as the objects of JSON lines, numbered from 1.

    A time, a Decimal or any other value that JSON lacks becomes a text, as in a cell. Values that are not a number,
    such as NaN in a data frame, count as missing.
    """

    kind = FileKind.JSON_LINES

    def __init__(
        self, rows: Iterable[Mapping[str, object]], *, is_number: Callable[[str], bool] = is_number_column
    ) -> None:
        super().__init__()
        self._rows, self._is_number = rows, is_number

    def __iter__(self) -> Iterator[Row]:
        for number, row in enumerate(cast("Iterable[object]", self._rows), 1):
            if not isinstance(row, Mapping):
                problem = f"the row is {describe(row)}, not a mapping of columns to values"
                yield Row(number, problems=((None, problem),), code=NO_CALL, text=str(row))
                continue
            data: dict[str, object] = {}
            problems: list[tuple[str | None, str]] = []
            if wrong := number_in_name(map(str, cast("Iterable[object]", row))):
                problems.append((None, f"the name of a column holds {wrong!r}, a telephone number: correct the header"))
            for name, value in cast("Mapping[object, object]", row).items():
                if name is None:  # csv.DictReader puts the cells that no column has under None
                    problems.append((None, f"the row has more cells than the header: {quoted(value, most=60)}"))
                    continue
                try:
                    if self._is_number(str(name)):
                        refuse_quantity(value)
                    data[str(name)] = _plain(value)
                except ValueError as error:
                    problems.append((str(name), str(error)))
            yield Row(number, tuple(data.values()), tuple(data), tuple(problems))


def _plain(value: Any) -> object:
    """Return the value as JSON has it. Raises ValueError for a value that cannot be written as text."""
    if value is None or isinstance(value, str | int) or is_object(value) or is_list(value):
        return value
    if type(value).__module__ == "numpy":
        return _plain(value.tolist())
    if _is_nan(value):
        return None
    return exact_number(value) if isinstance(value, float) else cell_text(value)


def _is_nan(value: object) -> bool:
    """Return whether this is NaN, or another value of a library for a missing one, such as NaT and NA."""
    try:
        return bool(value != value)  # noqa: PLR0124
    except (ArithmeticError, TypeError):  # sNaN and NA cannot even be compared
        return True


_BY_SUFFIX = {
    ".csv": FileKind.CSV,
    ".tsv": FileKind.CSV,
    ".jsonl": FileKind.JSON_LINES,
    ".ndjson": FileKind.JSON_LINES,
    ".json": FileKind.JSON,
    ".xlsx": FileKind.EXCEL,
}


def open_list(
    file: InputFile,
    *,
    kind: FileKind | None = None,
    sheet: str | None = None,
    is_number: Callable[[str], bool] = is_number_column,
    header_row: int | None = None,
    encoding: str | None = None,
) -> OpenList:
    """Open the list in a file. `kind` is the format, detected by default, and `sheet` the sheet of a workbook.

    `is_number` says which columns have telephone numbers, and `header_row` is the line or row of the header. Raises
    CampaignFileError if the file cannot be read.
    """
    kind = kind or kind_of(file)
    if file.size > LARGEST_FILE:
        raise CampaignFileError(f"{file} has {file.size:,} bytes; a list has at most {LARGEST_FILE:,}. Split it.")
    if sheet is not None and kind is not FileKind.EXCEL:
        raise CampaignFileError(f"{file} has no sheet {sheet!r}: only workbooks have sheets")
    if header_row is not None and not kind.is_table:
        raise CampaignFileError(f"{file} has no row of a header: only CSV files and workbooks have one")
    if encoding is not None and kind is not FileKind.CSV:
        raise CampaignFileError(f"{file} is no CSV file, and only these have an encoding. Leave out the encoding.")
    match kind:
        case FileKind.CSV:
            return CsvList(file, header_row=header_row, encoding=encoding)
        case FileKind.JSON_LINES:
            return JsonLines(file)
        case FileKind.JSON:
            return JsonDocument(file)
        case FileKind.EXCEL:
            return WorkbookList(file, sheet=sheet, is_number=is_number, header_row=header_row)


def kind_of(file: InputFile) -> FileKind:
    """Return the format of a file, by its extension, else by its beginning. Raises CampaignFileError."""
    if file.path is not None and file.path.is_fifo():  # what is read once to know the format would be lost
        raise CampaignFileError(f"{file} is a pipe, whose rows can be read only once: give it as standard input (-)")
    if (known := _BY_SUFFIX.get(file.suffix)) is not None:
        return known
    with file.opened() as reader:
        beginning = reader.peek(4)[:4]
        first, *others = [line for line in reader.read(LONGEST_ROW).splitlines() if line.strip()] or [b""]
    if beginning == b"PK\x03\x04":
        return FileKind.EXCEL
    if not first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"[", b"//", b"/*")):
        return FileKind.CSV
    try:
        read_strict_json(first)
    except ValueError:
        return FileKind.JSON
    return FileKind.JSON_LINES if others else FileKind.JSON


class Spool:
    """Chunks of rows in a temporary `file`. Rows are plain tuples: named tuples take twice the time and space."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._chunks = 0
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def put(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add these rows as one chunk. Raises OSError, with the remedy, if the file cannot be written."""
        if not rows:
            return
        try:
            pickle.dump(rows, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            remedy = f"{error.strerror}; free space in the temporary folder, or set TMPDIR to another"
            raise OSError(error.errno, remedy, tempfile.gettempdir()) from error
        self._chunks += 1
        self._rows += len(rows)

    def __iter__(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the chunks, in the order in which they were added."""
        self._file.seek(0)
        for _ in range(self._chunks):
            yield pickle.load(self._file)  # noqa: S301 (written above, by this process)
