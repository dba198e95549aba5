"""Writes workbooks (.xlsx) row by row: the written rows are in temporary files, so that memory does not grow."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.cell import Cell

MOST_ROWS = 1_048_575
"""The largest number of lines of a sheet below its header, by the limit of Excel."""
_MOST_DIGITS, _LONGEST_TEXT = 15, 32_767
"""The largest number of digits that Excel keeps of a number, and of characters in a cell."""
_CODED = re.compile("_(?=x[0-9A-Fa-f]{4}_)|[\\0-\\x08\\x0b-\\x1f\ufffe\uffff]")
"""What XML cannot have, or what would be read as a code of it: _x000D_ (ECMA-376, 22.9.2.19)."""
_COMMANDS = ("=", "+", "-", "@", "\t", "\r", "\n", "#")
"""How a text begins that a program may take for a formula or an error."""


@contextmanager
def written_workbook(path: Path) -> Generator[WorkbookWriter]:
    """Yield a workbook without sheets, which is written to `path` if the block ends without an error.

    Raises OSError.
    """
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    try:
        yield WorkbookWriter(book)
        book.save(path)
    except BaseException:
        sheets: list[Any] = [*book.worksheets]
        for sheet in sheets:
            with suppress(Exception):
                sheet.close()
            with suppress(Exception):
                sheet._writer.cleanup()  # noqa: SLF001 - nothing else removes the temporary file
        raise


class WorkbookWriter:
    """A workbook that is being written."""

    def __init__(self, book: Workbook) -> None:
        self._book = book

    def sheet(self, name: str, columns: Sequence[str], *, widths: Sequence[int]) -> SheetWriter:
        """Add a sheet with the names of these columns. The last of `widths` is that of all further columns."""
        return SheetWriter(self._book.create_sheet(name), columns, widths)


class SheetWriter:
    """A sheet of a workbook that is being written. Texts are written as texts, so that Excel runs no formula in them.

    A text that looks like one is marked as if it was typed with an apostrophe: it stays a text when it is edited.
    """

    def __init__(self, sheet: Any, columns: Sequence[str], widths: Sequence[int]) -> None:
        from openpyxl.styles import Border, Font, Side
        from openpyxl.utils import get_column_letter

        self._sheet = sheet
        self._columns = len(columns)
        self._rows = 0
        sheet.freeze_panes = "A2"
        for place in range(len(columns)):
            sheet.column_dimensions[get_column_letter(place + 1)].width = widths[min(place, len(widths) - 1)]
        self._quoted, header = self._styled(), self._styled()
        self._quoted.quotePrefix = True
        header.font, header.border = Font(bold=True), Border(bottom=Side(style="thin"))
        sheet.append(self._text(column, header) for column in columns)

    def append(self, values: Iterable[object]) -> None:
        """Write the next row: each value as a cell of its type, and a number that Excel would round as a text."""
        self._sheet.append(self._cells(values))
        self._rows += 1

    def filter_columns(self) -> None:
        """Give the header filters over all rows."""
        from openpyxl.utils import get_column_letter

        self._sheet.auto_filter.ref = f"A1:{get_column_letter(self._columns)}{self._rows + 1}"

    def _cells(self, values: Iterable[object]) -> Iterator[object]:
        for value in values:
            match value:
                case None | "":
                    yield None
                case bool() | timedelta():
                    yield value
                case int() | float() | Decimal() if _is_exact(value):
                    yield float(value)
                case datetime():
                    yield value.replace(tzinfo=None)
                case _:
                    text = str(value)
                    yield self._text(text, self._quoted) if text.startswith(_COMMANDS) else _coded(text)

    def _text(self, text: str, cell: Cell) -> Cell:
        """The cell, which is written before it is used again, with a text, whatever it looks like."""
        cell.value = _coded(text)
        cell.data_type = "s"
        return cell

    def _styled(self) -> Cell:
        from openpyxl.cell import WriteOnlyCell

        return WriteOnlyCell(self._sheet)


def _coded(text: str) -> str:
    return _CODED.sub(lambda found: f"_x{ord(found[0]):04X}_", text)[:_LONGEST_TEXT]


def _is_exact(number: float | Decimal) -> bool:
    return isfinite(number) and len(str(number).strip("-0.").replace(".", "")) <= _MOST_DIGITS
