"""A reader for the CSV files of a log export (8x8 voice log export reference, "Logs files format").

The reader is tolerant: columns may have any order and spelling, and missing or unreadable values are None. A line that
cannot be read becomes an empty row. This row could belong to any call. So no match in this log is certain, and no call
is proven to be missing.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, get_args, get_type_hints

from voiceflow_worker.errors import CallLogError
from voiceflow_worker.model.jobs.call_log import ExportRow
from voiceflow_worker.model.reports.events import Direction
from voiceflow_worker.model.reports.payload import fold_name
from voiceflow_worker.model.reports.status import fold_session_status

_NEEDED = ("SessionId", "SourceEndpoint", "DestinationEndpoint", "InitiatedAt")
_DEAREST = Decimal(10) ** 12
_NOTHING = frozenset({"", "null", "none"})
# Spreadsheets need these marks to read a number as a text: ="6587654321" or '6587654321.
_FOR_SPREADSHEETS = re.compile(r"=\"(.*)\"|'(.*)", re.DOTALL)


class Column(NamedTuple):
    """A column of the log: its name, the field of `ExportRow` that it fills, and the function that reads its text."""

    name: str
    field: str
    read: Callable[[str], object]


def read_rows(content: bytes) -> list[ExportRow]:
    """The rows of one file. Raises CallLogError if the file is not a log export."""
    text = content.decode("utf-8-sig", errors="replace")
    first = text.partition("\n")[0]
    lines = _lines(text, delimiter=max(",;\t", key=first.count))
    names = next(lines, None) or []
    places = {fold_name(name): place for place, name in reversed(list(enumerate(names)))}
    missing = [name for name in _NEEDED if fold_name(name) not in places]
    if missing:
        raise CallLogError(f"a file of the log export cannot be read: columns are missing ({', '.join(missing)})")
    found = [(column, places.get(fold_name(column.name))) for column in _COLUMNS]
    known = [(column, place) for column, place in found if place is not None]
    return [_row(cells, known, width=len(names)) for cells in lines if cells != []]


def _lines(text: str, *, delimiter: str) -> Iterator[list[str] | None]:
    """The cells of each line; None for a line that cannot be read."""
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None


def _row(cells: Sequence[str] | None, columns: Sequence[tuple[Column, int]], *, width: int) -> ExportRow:
    if cells is None or len(cells) != width:
        return ExportRow()
    values: dict[str, Any] = {}
    for column, place in columns:
        text = _text(cells[place])
        value = None if text is None else column.read(text)
        if isinstance(value, datetime) and value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        values[column.field] = value
    values["status"] = fold_session_status(values.get("status_text"))
    return ExportRow(**values)


def _text(cell: str) -> str | None:
    text = cell.strip()
    wrapped = _FOR_SPREADSHEETS.fullmatch(text)
    if wrapped is not None:
        text = (wrapped[1] or wrapped[2] or "").strip()
    return None if text.casefold() in _NOTHING else text


def _direction(text: str) -> Direction | None:
    try:
        return Direction(text.upper())
    except ValueError:
        return None


def _decimal(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _whole(text: str) -> int | None:
    number = _decimal(text)
    return None if number is None else int(number)


def _price(text: str) -> Decimal | None:
    try:
        price = Decimal(text)
    except InvalidOperation:
        return None
    return price if price.is_finite() and 0 <= price < _DEAREST else None


def _moment(text: str) -> datetime | None:
    """A time in ISO 8601: in UTC if the text has a zone, else without a zone."""
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_NAMES = {
    "source": "SourceEndpoint",
    "destination": "DestinationEndpoint",
    "seconds": "DurationInSec",
    "billed_seconds": "BillableDurationInSec",
    "currency": "UnitPriceCurrency",
    "price": "TotalPriceOfCall",
    "status_text": "SessionStatus",
}
"""The names of columns that are named differently from their fields."""
_READERS: Mapping[type, Callable[[str], object]] = {
    str: str,
    Direction: _direction,
    datetime: _moment,
    float: _decimal,
    int: _whole,
    Decimal: _price,
}
_COLUMNS = tuple(
    Column(_NAMES.get(name, name), name, _READERS[kind])
    for name, hint in get_type_hints(ExportRow).items()
    for kind in get_args(hint)
    if kind in _READERS
)
