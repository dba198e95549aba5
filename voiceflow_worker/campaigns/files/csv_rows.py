"""The reader of CSV files as spreadsheets write them: several delimiters, line breaks in quotes, ragged rows."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator

from voiceflow_worker.campaigns.files.input_file import LONGEST_LINE, InputFile, Line, read_lines
from voiceflow_worker.campaigns.files.rows import (
    CALLS,
    NOT_READ,
    ColumnReader,
    FileKind,
    RawRow,
    RowSource,
    nameless_values,
    row_name,
)
from voiceflow_worker.errors import CampaignFileError

_DELIMITERS = ",;\t|"
_LONGEST_RECORD = 500
"""The largest number of lines in a record. Without a limit, an unclosed quote would swallow the good rows after it."""

_LONGEST_CELL = 131_072
"""The largest number of characters in a cell, which is the limit of Python's csv module."""

_LONGEST_HEADER = 20
"""The largest number of lines that a header can have after its first line."""

_SEPARATOR = re.compile(r"""\s*["']?\s*sep\s*=(?:([^\w\s"']|\t)["']?\s*$)?""", re.IGNORECASE)

_OPEN_QUOTE = 'has a quote (") that is opened and not closed; close it, or write "" for a quote within a cell'


_JOINED = re.compile(r"\S[,;\t|]\S")
_QUOTED_LINE = (
    "the whole line stands in quotes, so that it is one cell: remove the quotes at the beginning and the end of each "
    'line, and write " for "" in it; or export the list again, with quotes around single cells'
)


class CsvRows(RowSource):
    """The rows of a CSV file. The constructor reads the header, and raises CampaignFileError if it cannot be used.

    Its columns are named by `columns`. `header_row` is the line of the header, if it is not the first that is not
    empty.
    """

    kind = FileKind.CSV

    def __init__(
        self,
        file: InputFile,
        *,
        columns: ColumnReader = CALLS,
        header_row: int | None = None,
    ) -> None:
        self._file = file
        self._lines = _PushbackLines(read_lines(file, is_table=True))
        numbers = row_name(columns.roles.named_numbers[0])
        self.header: tuple[str, ...] = self._read_header(numbers, header_row or 1)
        if header_row is not None and self.header_row != header_row:
            raise CampaignFileError(f"{file}: line {header_row} is empty, and is to be the header; name another line")
        if len(self.header) == 1 and _JOINED.search(self.header[0]):
            raise CampaignFileError(f"{file}, line {self.header_row}: {_QUOTED_LINE}")
        self.columns: tuple[str, ...] = columns.names(self.header, place=file)

    def _read_header(self, numbers: str, begins: int) -> tuple[str, ...]:
        named: str | None = None
        while (line := self._lines.take()) is not None:
            number, text, problem = line
            separator = _SEPARATOR.match(text)
            is_above = number < begins and not (number == 1 and separator)
            if is_above or not text.strip():
                if text.strip():
                    cells = _cells(text, _delimiter_of(text, numbers))
                    self._pass_over(number, [text.strip()] if isinstance(cells, str) else cells)
                continue
            if problem is not None:
                raise CampaignFileError(f"{self._file}, line {number} {problem}")
            # A first line such as `sep=;` names the delimiter for Excel.
            if named is None and separator is not None:
                named = separator[1] or ""
                continue
            more = 0
            # The name of a column may have line breaks. The delimiter is still unknown, so quotes are counted.
            while text.count('"') % 2 and more < _LONGEST_HEADER and (following := self._lines.take()) is not None:
                text, more = text + following[1], more + 1
            self.delimiter: str = named if named and named in text else _delimiter_of(text, numbers)
            cells = _cells(text, self.delimiter)
            if isinstance(cells, str):
                raise CampaignFileError(f"{self._file}, line {number}: the header {cells}")
            self.header_row: int | None = number
            return cells
        raise CampaignFileError(
            f"{self._file} is empty; it needs a header line with a column named destination, and rows"
        )

    def __iter__(self) -> Iterator[RawRow]:
        width = len(self.columns) if all(self.columns) else -1
        while (line := self._lines.take()) is not None:
            number, text, problem = line
            if not text.strip():
                continue
            is_plain = '"' not in text and problem is None and len(text) <= _LONGEST_CELL
            cells = text.removesuffix("\n").split(self.delimiter) if is_plain else []
            row = RawRow(number, text, tuple(cells)) if len(cells) == width else self._record(line)
            # Spreadsheets leave rows of empty cells behind.
            if row.problems or any(map(str.strip, row.cells)):
                yield row

    def _record(self, first: Line) -> RawRow:
        """The row that begins with this line."""
        number, text, problem = first
        cells = problem or _cells(text, self.delimiter)
        if cells == _OPEN_QUOTE:
            text, cells = self._joined(first)
        if isinstance(cells, str):
            # The line stays one cell: if it were split, it might be read as a good row when the rejects are enqueued.
            return RawRow(number, first[1], (first[1].rstrip("\n"),), problems=((None, f"the line {cells}"),))
        missing = self.columns[len(cells) :]
        # Excel leaves out the empty cells at the end of some rows. In a file of rejects, a row that could not be read
        # is one cell, and stays bad until it is corrected.
        if missing and self.spare.issuperset(missing) and self.columns[0] != NOT_READ:
            cells += ("",) * len(missing)
        problems = self._raggedness(cells) or tuple(nameless_values(self.columns, cells))
        return RawRow(number, text, cells, problems=problems)

    def _joined(self, first: Line) -> tuple[str, tuple[str, ...] | str]:
        """The text of the record that begins with this line, and its cells.

        If the record cannot be read, the reason takes the place of the cells.
        """
        text = first[1]
        cells: tuple[str, ...] | str = _OPEN_QUOTE
        taken: list[Line] = []
        # Only a quote can end a quoted cell: after a line without a quote, parsing again is useless.
        while (
            cells == _OPEN_QUOTE
            and len(taken) < _LONGEST_RECORD
            and len(text) < LONGEST_LINE
            and (line := self._lines.take()) is not None
        ):
            taken.append(line)
            if line[2] is not None:
                break
            text += line[1]
            if '"' in line[1]:
                cells = _cells(text, self.delimiter)
        if isinstance(cells, str):
            # Only the first line is bad: the others are read as separate rows.
            self._lines.put_back(taken)
        return text, cells

    def _raggedness(self, cells: tuple[str, ...]) -> tuple[tuple[str | None, str], ...]:
        # Empty surplus cells count too: an unquoted delimiter in the first columns adds one at the end.
        wanted, found = len(self.columns), len(cells)
        if found == wanted or not any(cell.strip() for cell in cells):
            return ()
        if found == 1 and self.delimiter in cells[0]:
            return ((None, _QUOTED_LINE),)
        sizes = f"the row has {found} cell{'s' * (found != 1)}, but the header has {wanted}"
        if found > wanted:
            return ((None, f"{sizes}; put quotes around a cell that contains the delimiter"),)
        missing = ", ".join(name or "a column without a name" for name in self.columns[found:])
        remedy = "fill them, or put a column that every row fills last: Excel leaves out empty cells at the end of rows"
        if found == 1:
            remedy += "; or delete the line, if it is none of the list"
        return ((None, f"{sizes}: {missing} {'is' if found + 1 == wanted else 'are'} missing; {remedy}"),)


class _PushbackLines:
    """A reader of lines. Lines that were taken can be put back, and are then taken again."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._waiting: deque[Line] = deque()

    def take(self) -> Line | None:
        return self._waiting.popleft() if self._waiting else next(self._lines, None)

    def put_back(self, lines: list[Line]) -> None:
        self._waiting.extendleft(reversed(lines))


def _delimiter_of(header: str, numbers: str) -> str:
    """The most likely delimiter of a header: one that gives the column of `numbers`, else the most frequent one."""

    def sense(delimiter: str) -> tuple[bool, int]:
        cells = _cells(header, delimiter)
        if isinstance(cells, str):
            return False, 0
        return numbers in map(row_name, cells), len(cells)

    return max(_DELIMITERS, key=sense)


def _cells(text: str, delimiter: str) -> tuple[str, ...] | str:
    """The cells of one record, or the reason why it cannot be parsed, as a clause."""
    if '"' not in text and len(text) <= _LONGEST_CELL:
        return tuple(text.removesuffix("\n").split(delimiter))
    # Blanks before a quote are no part of its cell; elsewhere they are.
    spaced = re.search(rf'(?:^|{re.escape(delimiter)}) +"', text) is not None
    try:
        return tuple(next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=spaced), ()))
    except csv.Error as error:
        reason = str(error)
        if "unexpected end of data" in reason:
            return _OPEN_QUOTE
        if "field limit" in reason:
            return f"has a cell of more than {_LONGEST_CELL} characters; shorten it"
        if "expected after" in reason:
            return 'has a character after a closing quote ("); write "" for a quote within a cell, as in "5"" pipe"'
        return f"cannot be read as CSV: {reason}"
