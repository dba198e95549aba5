"""Typed values as people would type them into a CSV file, and rows that a program gives."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import zip_longest
from typing import Any, cast

from voiceflow_worker.campaigns.files.damage import number_in_name
from voiceflow_worker.campaigns.files.json_rows import NO_CALL
from voiceflow_worker.campaigns.files.no_call import with_parts
from voiceflow_worker.campaigns.files.number_formats import BadCell, Shown
from voiceflow_worker.campaigns.files.rows import (
    RESERVED,
    ColumnReader,
    FileKind,
    RawRow,
    RowSource,
    nameless_values,
    row_name,
)
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import message_of
from voiceflow_worker.model.flows.values import Decimals, describe, exact_number, is_list, is_object, value_text
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.model.text.wording import quoted

_SHOWN_DIGITS, _SHORTENED_FROM = 6, 10
"""The number of digits in a shortened number such as 6.58765E+09, and the fewest digits of a number shown like this."""


def missing_library(what: str) -> CampaignFileError:
    """The error for a file that needs a missing library. `what` begins its message: `X is an Excel workbook, which`."""
    return CampaignFileError(
        f"{what} needs libraries that are not installed: pip install 'voiceflow-worker[files]', or save it as CSV"
    )


def message_line(error: Exception) -> str:
    """The beginning of an error's message, on one line; the name of the error if it has no message."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def cell_text(value: object) -> str:
    """The text of a cell: whole numbers without `.0`, dates as 2030-01-31, times as 09:00, nothing for an empty cell.

    Raises ValueError, with a clause, for a value that cannot be written as text without a loss.
    """
    match value:
        case None:
            return ""
        case BadCell():
            raise ValueError(value.problem)
        case str():
            return value
        case bool() | int():
            return value_text(value)
        case float() | Decimal() if _is_nan(value):
            return ""
        case float():
            return value_text(value)
        case Decimal():
            return _decimal(value)
        case date() | time() | timedelta():
            return _moment(value)
        case bytes():
            return _decoded(value)
        case _:
            return str(value)


def _decoded(value: bytes) -> str:
    text = value.decode(errors="replace")
    if "\ufffd" in text or storing_problem(text) is not None:
        raise ValueError("holds binary data; write it as text")
    return text


def table_row(
    source: RowSource, number: int, values: Sequence[object], text_of: Callable[[object], str] = cell_text
) -> RawRow:
    """The row of a table with these cells, those of its columns first.

    Of what a cell shows in another way, the value behind it counts in columns of telephone numbers, in those of dates
    and times, and in reserved ones. Its `problems` say which cells cannot be used or belong to no column, and why.
    """
    numbers, cells = source.numbers, list[str]()
    problems: list[tuple[str | None, str]] = []
    for name, given in zip_longest(source.columns, values, fillvalue=""):
        value = given
        if isinstance(given, Shown):
            is_read = name in numbers or name in RESERVED or row_name(name) in source.moments
            # Nobody has seen a time behind a day, and none is counted from it.
            is_read = is_read and (given.hidden_time is None or row_name(name) not in source.counted)
            value = given.value if is_read else given.text
        try:
            if name in numbers:
                _refuse_quantity(value)
            text = text_of(value)
            if isinstance(given.value if isinstance(given, Shown) else given, float | Decimal) and "." in text:
                text = Decimals(text)
            if isinstance(value, datetime) and row_name(name) in source.clocks:
                text = _with_midnight(text)
            if name in numbers and _may_be_cut_off(value):
                raise ValueError(
                    f"ends in zeros, as if read from {value:.5E}: a spreadsheet may have lost digits; write the "
                    "number as text, even if it is right"
                )
            cells.append(text)
        except ValueError as error:
            cells.append(str(value))
            problems.append((name or None, message_of(error)))
    return RawRow(number, "", tuple(cells), problems=(*problems, *nameless_values(source.columns, cells)))


def _with_midnight(text: str) -> str:
    """The text of a date and time, whose time of day is left out at midnight, with that."""
    return text if ":" in text else f"{text} 00:00"


def _refuse_quantity(value: object) -> None:
    """Raise ValueError for a typed value that is no phone number, although its text may have enough digits."""
    is_broken = isinstance(value, float | Decimal) and math.isfinite(value) and value != int(value)
    if is_broken or isinstance(value, date | time | timedelta | bool):
        raise ValueError(f"holds {value}, which is not a phone number; format the column as text and write the number")


def _may_be_cut_off(value: object) -> bool:
    """True if a long number ends in zeros after at most six digits, as spreadsheets show long numbers."""
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool) or not math.isfinite(value):
        return False
    digits = f"{value:.0f}"
    return len(digits) >= _SHORTENED_FROM and len(digits.rstrip("0")) <= _SHOWN_DIGITS


def _moment(value: date | time | timedelta) -> str:
    match value:
        case datetime() if value.tzinfo is None and value.time() == time():
            return value.date().isoformat()
        case datetime():
            return value.isoformat(sep=" ", timespec=_precision(value))
        case date():
            return value.isoformat()
        case time():
            return value.isoformat(timespec=_precision(value))
        case _:
            return _clock(value)


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"holds {value}, which is not a number; correct it")
    if value == value.to_integral_value():
        return f"{value.to_integral_value() or 0:f}"
    # A database may write an amount with four decimals or more.
    whole, _, decimals = f"{value:f}".partition(".")
    return f"{whole}.{decimals[:2]}{decimals[2:].rstrip('0')}"


def _precision(value: datetime | time) -> str:
    if value.microsecond:
        return "milliseconds"
    return "seconds" if value.second else "minutes"


def _clock(value: timedelta) -> str:
    """A duration in hours and minutes, and seconds if there are any: 26:30."""
    seconds = round(abs(value).total_seconds())
    sign = "-" if value < timedelta() else ""
    clock = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}"
    return f"{clock}:{seconds % 60:02}" if seconds % 60 else clock


class GivenRows(RowSource):
    """Rows that a program gives as mappings. They are read as the objects of JSON lines, numbered from 1.

    A time, a Decimal or any other value that JSON lacks becomes a text, as a cell would have it. Values that are not a
    number, such as NaN in a data frame, count as missing.
    """

    kind = FileKind.JSON_LINES

    def __init__(self, rows: Iterable[Mapping[str, object]], *, reader: ColumnReader) -> None:
        self._rows = rows
        self._numbers = reader.numbers

    def __iter__(self) -> Iterator[RawRow]:
        for number, row in enumerate(cast("Iterable[object]", self._rows), 1):
            if not isinstance(row, Mapping):
                problem = f"the row is {describe(row)}, not a mapping of columns to values"
                yield RawRow(number, str(row), problems=((None, problem),), code=NO_CALL)
                continue
            data: dict[str, object] = {}
            problems: list[tuple[str | None, str]] = []
            names = cast("Iterable[object]", row)
            if wrong := number_in_name(name for name in names if isinstance(name, str)):
                problems.append((None, f"the name of a column holds {wrong!r}, a telephone number: correct the header"))
            for name, value in cast("Mapping[object, object]", row).items():
                if name is None:  # csv.DictReader puts the cells that no column has under None
                    problems.append((None, f"the row has more cells than the header: {quoted(value, most=60)}"))
                    continue
                try:
                    if row_name(str(name)) in self._numbers:
                        _refuse_quantity(value)
                    text = _plain(value)
                    is_clock = isinstance(value, datetime) and row_name(str(name)) in self.clocks
                    data[str(name)] = _with_midnight(str(text)) if is_clock and text is not None else text
                except ValueError as error:
                    problems.append((str(name), message_of(error)))
            cells = with_parts(data)
            yield RawRow(number, "", tuple(cells.values()), tuple(cells), tuple(problems))


def _plain(value: Any) -> object:
    """The value as JSON has it. Raises ValueError for a value that cannot be written as text."""
    if value is None or isinstance(value, str | int):
        return value
    if type(value).__module__ == "numpy":
        found = value.tolist()
        return _plain(
            float(str(value)) if isinstance(found, float) and value.itemsize < struct.calcsize("d") else found
        )
    if is_object(value):
        return {str(name): _plain(item) for name, item in value.items()}
    if is_list(value):
        return [_plain(item) for item in value]
    if _is_nan(value):
        return None
    if isinstance(value, float):
        return exact_number(value)
    if isinstance(value, Decimal):
        return Decimals(cell_text(value))
    if isinstance(value, date | time | timedelta | bytes):
        return cell_text(value)
    return str(value)


def _is_nan(value: object) -> bool:
    """True for NaN, and for the other values of libraries that stand for a missing one, such as NaT and NA."""
    try:
        return bool(value != value)  # noqa: PLR0124
    except (ArithmeticError, TypeError):  # sNaN and NA cannot even be compared
        return True
