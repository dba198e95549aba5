"""The reader of CSV files as spreadsheets write them: several delimiters, line breaks in quotes, ragged rows."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from voiceflow_worker.campaigns.files.input_file import LONGEST_LINE, InputFile, Line, read_lines
from voiceflow_worker.campaigns.files.rows import (
    DESTINATION,
    FileKind,
    RawRow,
    RowSource,
    canonical_name,
    read_columns,
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

_OPEN_QUOTE = 'has a quote (") that is opened and not closed; close it, or write "" for a quote within a cell'


class CsvRows(RowSource):
    """The rows of a CSV file. The constructor reads the header, and raises CampaignFileError if it cannot be used.

    `number_column` is the name of the column of the numbers to call, if it is not `destination`. For a file that has no
    calls, `judge` returns the reason why the columns cannot be used, as a clause, or raises CampaignFileError.
    """

    kind = FileKind.CSV

    def __init__(
        self,
        file: InputFile,
        *,
        on_bytes: Callable[[int], None] | None = None,
        number_column: str | None = None,
        judge: Callable[[Sequence[str]], str | None] | None = None,
    ) -> None:
        self._file = file
        self._lines = _PushbackLines(read_lines(file, on_bytes=on_bytes))
        self.header: tuple[str, ...] = self._read_header(row_name(number_column or DESTINATION))
        if judge is None:
            self.columns = read_columns(self.header, number_column, place=file)
            return
        self.columns: tuple[str, ...] = tuple(map(canonical_name, self.header))
        if problem := judge(self.columns):
            raise CampaignFileError(f"{file} {problem}")

    def _read_header(self, numbers: str) -> tuple[str, ...]:
        for line in self._lines:
            if not line.text.strip():
                continue
            if line.problem is not None:
                raise CampaignFileError(f"{self._file}, line {line.number} {line.problem}")
            # A first line such as `sep=;` names the delimiter for Excel.
            if line.text.lower().startswith("sep=") and len(line.text.strip("\n")) == 5:
                self.delimiter = line.text[4]
                continue
            text, more = line.text, 0
            # The name of a column may have line breaks. The delimiter is still unknown, so quotes are counted.
            while text.count('"') % 2 and more < _LONGEST_HEADER and (following := self._lines.take()) is not None:
                text, more = text + following.text, more + 1
            self.delimiter: str = self.delimiter or _delimiter_of(text, numbers)
            cells = _cells(text, self.delimiter)
            if isinstance(cells, str):
                raise CampaignFileError(f"{self._file}, line {line.number}: the header {cells}")
            self.header_row: int | None = line.number
            return cells
        raise CampaignFileError(
            f"{self._file} is empty; it needs a header line with a column named destination, and rows"
        )

    def __iter__(self) -> Iterator[RawRow]:
        for line in self._lines:
            if not line.text.strip():
                continue
            row = self._record(line)
            # Spreadsheets leave rows of empty cells behind.
            if row.problems or any(cell.strip() for cell in row.cells):
                yield row

    def _record(self, first: Line) -> RawRow:
        if first.problem is not None:
            return self._unreadable(first, first.problem)
        text, cells = self._joined(first)
        if isinstance(cells, str):
            return self._unreadable(first, cells)
        return RawRow(number=first.number, text=text, cells=cells, problems=self._raggedness(cells))

    def _joined(self, first: Line) -> tuple[str, tuple[str, ...] | str]:
        """The text of the record that begins with this line, and its cells.

        If the record cannot be read, the reason takes the place of the cells.
        """
        text = first.text
        cells = _cells(text, self.delimiter)
        taken: list[Line] = []
        # Only a quote can end a quoted cell: after a line without a quote, parsing again is useless.
        while (
            cells == _OPEN_QUOTE
            and len(taken) < _LONGEST_RECORD
            and len(text) < LONGEST_LINE
            and (line := self._lines.take()) is not None
        ):
            taken.append(line)
            if line.problem is not None:
                break
            text += line.text
            if '"' in line.text:
                cells = _cells(text, self.delimiter)
        if isinstance(cells, str):
            # Only the first line is bad: the others are read as separate rows.
            self._lines.put_back(taken)
        return text, cells

    def _unreadable(self, line: Line, problem: str) -> RawRow:
        # The line stays one cell: if it were split, it might be read as a good row when the rejects are enqueued.
        cells = (line.text.rstrip("\n"),)
        return RawRow(number=line.number, text=line.text, cells=cells, problems=((None, f"the line {problem}"),))

    def _raggedness(self, cells: tuple[str, ...]) -> tuple[tuple[str | None, str], ...]:
        # Empty surplus cells count too: an unquoted delimiter in the first columns adds one at the end.
        wanted, found = len(self.columns), len(cells)
        if found == wanted or not any(cell.strip() for cell in cells):
            return ()
        remedy = (
            "put quotes around a cell that contains the delimiter"
            if found > wanted
            else "give every column a cell, even if it is empty"
        )
        return ((None, f"the row has {found} cell{'s' * (found != 1)}, but the header has {wanted}; {remedy}"),)


class _PushbackLines:
    """A reader of lines. Lines that were taken can be put back, and are then taken again."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._waiting: deque[Line] = deque()

    def __iter__(self) -> Iterator[Line]:
        while (line := self.take()) is not None:
            yield line

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
    try:
        return tuple(next(csv.reader([text], delimiter=delimiter, strict=True), ()))
    except csv.Error as error:
        reason = str(error)
        if "unexpected end of data" in reason:
            return _OPEN_QUOTE
        if "field limit" in reason:
            return f"has a cell of more than {_LONGEST_CELL} characters; shorten it"
        if "expected after" in reason:
            return 'has a character after a closing quote ("); write "" for a quote within a cell, as in "5"" pipe"'
        return f"cannot be read as CSV: {reason}"
