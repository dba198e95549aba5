"""The reader of CSV files as spreadsheets write them: several delimiters, line breaks in quotes, ragged rows."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from voiceflow_worker.campaigns.files.columns import DESTINATION, canonical_name, header_problem
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.lines import Line, read_lines
from voiceflow_worker.campaigns.files.rows import FileKind, RawRow, RowSource
from voiceflow_worker.errors import CampaignFileError

_DELIMITERS = ",;\t|"
_LONGEST_RECORD = 500
"""Lines. Without a limit an unclosed quote would take in the rest of the file, with its good rows."""

_LONGEST_HEADER = 20
"""Lines."""

_OPEN_QUOTE = 'has a quote (") that is opened and not closed; close it, or double it where a cell holds one'


class CsvRows(RowSource):
    """The rows of a CSV file. The constructor reads the header, and raises CampaignFileError if it cannot be used.

    `judge` returns the reason that the columns cannot be used, as a sentence; a campaign needs a destination.
    """

    kind = FileKind.CSV

    def __init__(
        self,
        file: InputFile,
        *,
        on_bytes: Callable[[int], None] | None = None,
        judge: Callable[[Sequence[str]], str | None] = header_problem,
    ) -> None:
        self._file = file
        self._lines = _Lines(read_lines(file, on_bytes=on_bytes))
        self.header = self._read_header()
        self.columns = tuple(map(canonical_name, self.header))
        if problem := judge(self.columns):
            raise CampaignFileError(f"{file} {problem}")

    def _read_header(self) -> tuple[str, ...]:
        for line in self._lines:
            if not line.text.strip():
                continue
            if line.problem is not None:
                raise CampaignFileError(f"{self._file}, line {line.number} {line.problem}")
            # Excel's own declaration of the delimiter; other programs read it as a row.
            if line.text.lower().startswith("sep=") and len(line.text.strip("\n")) == 5:
                self.delimiter = line.text[4]
                continue
            text, more = line.text, 0
            # The name of a column may have line breaks. The delimiter is still unknown, so quotes are counted.
            while text.count('"') % 2 and more < _LONGEST_HEADER and (following := self._lines.take()) is not None:
                text, more = text + following.text, more + 1
            self.delimiter = self.delimiter or _delimiter_of(text)
            cells = _cells(text, self.delimiter)
            if isinstance(cells, str):
                raise CampaignFileError(f"{self._file}, line {line.number}: the header {cells}")
            self.header_row = line.number
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
        """The text and the cells of the record that begins with a line, or the reason that it cannot be read."""
        text = first.text
        cells = _cells(text, self.delimiter)
        taken: list[Line] = []
        # Only a quote can end a quoted cell: lines without one need no attempt.
        while cells == _OPEN_QUOTE and len(taken) < _LONGEST_RECORD and (line := self._lines.take()) is not None:
            taken.append(line)
            if line.problem is not None:
                break
            text += line.text
            if '"' in line.text:
                cells = _cells(text, self.delimiter)
        if isinstance(cells, str):
            # Only the first line is bad: the others are read as rows of their own.
            self._lines.put_back(taken)
        return text, cells

    def _unreadable(self, line: Line, problem: str) -> RawRow:
        cells = tuple(next(csv.reader([line.text.rstrip("\n")], delimiter=self.delimiter), ()))
        return RawRow(number=line.number, text=line.text, cells=cells, problems=((None, f"the line {problem}"),))

    def _raggedness(self, cells: tuple[str, ...]) -> tuple[tuple[str | None, str], ...]:
        # Empty surplus cells count too: an unquoted delimiter in the first columns adds one at the end.
        wanted, found = len(self.columns), len(cells)
        if found == wanted or not any(cell.strip() for cell in cells):
            return ()
        remedy = (
            "a cell that holds the delimiter must stand in quotes"
            if found > wanted
            else "give every column a cell, if need be an empty one"
        )
        return ((None, f"the row has {found} cell{'s' * (found != 1)}, and the header {wanted}; {remedy}"),)


class _Lines:
    """Lines that can be put back."""

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


def _delimiter_of(header: str) -> str:
    """The most likely delimiter of a header: one that separates `destination`, else the most frequent."""

    def sense(delimiter: str) -> tuple[bool, int]:
        cells = _cells(header, delimiter)
        if isinstance(cells, str):
            return False, 0
        return DESTINATION in map(canonical_name, cells), len(cells)

    return max(_DELIMITERS, key=sense)


def _cells(text: str, delimiter: str) -> tuple[str, ...] | str:
    """The cells of one record, or the reason that it cannot be parsed, as the part of a sentence."""
    try:
        return tuple(next(csv.reader([text], delimiter=delimiter, strict=True), ()))
    except csv.Error as error:
        reason = str(error)
        if "unexpected end of data" in reason:
            return _OPEN_QUOTE
        if "expected after" in reason:
            return 'has a character after a closing quote ("); double each quote within a cell, as in "5"" pipe"'
        return f"cannot be read as CSV: {reason}"
