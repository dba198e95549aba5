"""Rows as they are in a list, and the text of a typed value."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple, cast

from voiceflow_worker.model.flows.values import value_text
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.model.text.wording import count_of

_SHOWN_DIGITS, _SHORTENED_FROM = 6, 10
"""The number of digits in a shortened number such as 6.58765E+09, and the fewest digits of a number shown like this."""


class FileKind(StrEnum):
    """The formats of campaign files."""

    CSV = "csv"
    JSON_LINES = "jsonl"
    JSON = "json"
    EXCEL = "xlsx"

    @property
    def is_table(self) -> bool:
        """True if the rows of this format are cells in named columns."""
        return self in {FileKind.CSV, FileKind.EXCEL}


class Row(NamedTuple):
    """A row as it is in its list. It is a tuple to save memory.

    `number`, counted from 1, is the line where the row begins, or the number of the row in a sheet. The `cells` of an
    object are its values, which have `names` of their own; `text` is a line that is no object. `problems` are the
    reasons why the row cannot be read, each a column and a clause, and `code` is their code at 8x8. `left_out` says why
    the list itself leaves the row out: "hidden in the sheet".
    """

    number: int
    cells: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()
    problems: tuple[tuple[str | None, str], ...] = ()
    code: int | None = None
    left_out: str | None = None
    text: str = ""

    @property
    def data(self) -> Mapping[str, object]:
        """Object that the row is; empty for a row of a table."""
        return dict(zip(self.names, self.cells, strict=False))


class OpenList(ABC):
    """An open list of a known format. Its rows can be read once. Only tables have a header."""

    kind: FileKind
    header: tuple[str, ...] = ()
    """The header of a table as it is written."""
    header_row: int | None = 1
    """The line or row of a table's header."""
    sheets: tuple[str, ...] = ()
    """The sheets of a workbook that are shown and have rows."""
    delimiter: str = ""
    """The delimiter of a CSV file."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        """How many rows the list itself left out so far, by the reason."""

    @abstractmethod
    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in their order."""

    def cells_of(self, row: Row) -> Mapping[str, object]:
        """Return the cells of a row by the names of their columns as they are written."""
        return dict(zip(row.names or self.header, row.cells, strict=False))

    @property
    def notes(self) -> Iterator[str]:
        """Warnings about the whole list. They are complete when all rows have been read."""
        for why, count in self.left_out.items():
            yield f"left out: {count_of(count, 'row')} that {'is' if count == 1 else 'are'} {why}"

    def _row(self, number: int, cells: Sequence[str], problems: Sequence[tuple[str | None, str]] = ()) -> Row:
        """Return the row of a table with these cells. A value in a column without a name is a problem."""
        unnamed = [
            (None, f"cell {place + 1} holds {cell.strip()[:40]!r}, and its column has no name. Name it.")
            for place, cell in enumerate(cells)
            if not (place < len(self.header) and self.header[place].strip()) and cell.strip()
        ]
        kept = cells if unnamed else cells[: len(self.header)]
        return Row(number, tuple(kept), problems=(*problems, *unnamed))


def cell_text(value: object) -> str:
    """Return the text of a typed value: whole numbers without `.0`, dates as 2030-01-31, times as 09:00.

    Raises ValueError, with a clause, for a value that cannot be written as text without a loss.
    """
    match value:
        case bool() | int() | float():
            return value_text(value)
        case Decimal() if not value.is_finite():
            raise ValueError(f"holds {value}, which is not a number. Correct it.")
        case Decimal():
            whole, _, decimals = f"{value:f}".partition(".")
            # A database may write an amount with four decimals or more.
            decimals = "" if not decimals.strip("0") else f"{decimals[:2]}{decimals[2:].rstrip('0')}"
            return f"{whole}.{decimals}" if decimals else f"{int(whole)}"
        case datetime():
            return value.isoformat(sep=" ", timespec=_precision(value))
        case time():
            return value.isoformat(timespec=_precision(value))
        case date():
            return value.isoformat()
        case timedelta():
            seconds = round(abs(value).total_seconds())
            clock = f"{'-' if value < timedelta() else ''}{seconds // 3600:02}:{seconds // 60 % 60:02}"
            return f"{clock}:{seconds % 60:02}" if seconds % 60 else clock
        case bytes():
            text = value.decode(errors="replace")
            if "\ufffd" in text or storing_problem(text) is not None:
                raise ValueError("holds binary data. Write it as text.")
            return text
        case _:
            return str(value)


def _precision(value: datetime | time) -> str:
    return "milliseconds" if value.microsecond else "seconds" if value.second else "minutes"


_ERROR = re.compile(r"#(?:[A-Z/]+[!?]|N/A|NV|SPILL!|CALC!|GETTING_DATA|#+)|Err:\d{3}")


def error_in(text: str) -> str | None:
    """Return why a text is an error or a formula of a spreadsheet and no value, as a clause; None if it is a value."""
    if _ERROR.fullmatch(text):
        return f"holds the error {text} of a spreadsheet. Correct it there, and save the file again."
    if text.startswith('="'):
        return f"holds the formula {text[:40]}. Save its value."
    return None


def refuse_quantity(value: object) -> None:
    """Raise ValueError for a typed value in a column of numbers that is no telephone number, or may be cut off."""
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(value, date | time | timedelta | bool) or (is_number and value != int(cast("float", value))):
        raise ValueError(
            f"holds {value}, which is not a phone number. Format the column as text, and write the number."
        )
    digits = f"{value:.0f}" if is_number else ""
    if len(digits) >= _SHORTENED_FROM and len(digits.rstrip("0")) <= _SHOWN_DIGITS:
        raise ValueError(
            f"ends in zeros, as if read from {cast('float', value):.5E}: a spreadsheet may have lost digits. Write the "
            "number as text, even if it is right."
        )
