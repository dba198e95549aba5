"""Tables of one report or of several side by side, and their form in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

from voiceflow_worker.model.text.moment import in_words
from voiceflow_worker.model.text.printable import printable_line

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

Key = TypeVar("Key")


class Share(float):
    """A share from 0 to 1 that is printed in percent."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{float(self):.1%}"


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table of one or several reports. Columns whose names begin with `#` hold numbers; None is an empty cell."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def side_by_side(
    title: str, key: str, columns: Sequence[str], reports: Mapping[str, Mapping[Key, tuple[object, ...]]]
) -> ReportTable:
    """A table with a row for each key that any report has. `key` is the heading of the column of keys.

    `reports` has the rows of each report, by the name of the report. `columns` are the headings of the values of a row.
    With several reports, only the first and the last value of each row are shown.
    """
    keys = list(dict.fromkeys(key for rows in reports.values() for key in rows))
    shown, headers = range(len(columns)), list(columns)
    if len(reports) > 1:
        # Only the first and the last, such as attempts and their answer rate, because more columns do not fit.
        shown = range(0, len(columns), len(columns) - 1 or 1)
        headers = [f"{name}, {columns[place]}" if len(shown) > 1 else name for name in reports for place in shown]
    empty = (None,) * len(columns)
    return ReportTable(
        title,
        (key, *(f"#{header}" for header in headers)),
        tuple((each, *(rows.get(each, empty)[place] for rows in reports.values() for place in shown)) for each in keys),
    )


def tables_as_rich(title: str, tables: Iterable[ReportTable], lines: Iterable[str]) -> Group:
    """A title (unless it is empty), tables and lines for a terminal."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(_shown(title))] if title else []
    for each in tables:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in each.columns:
            is_number = column.startswith("#")
            table.add_column(_shown(column.lstrip("#")), justify="right" if is_number else "left", overflow="fold")
        for row in each.rows:
            table.add_row(*(Text(_shown(cell)) for cell in row))
        parts.append(table)
    return Group(*parts, *map(Text, lines))


def as_plain_text(shown: RenderableType) -> str:
    """A rich renderable as plain text."""
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    Console(file=text, width=200, color_system=None, highlight=False, markup=False).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def shown_cell(value: object) -> str:
    """A cell as text: durations as `0:12:30`, times in their zone or else in UTC, None as an empty text."""
    match value:
        case None:
            return ""
        case datetime():
            return in_words(value, value.tzinfo if isinstance(value.tzinfo, ZoneInfo) else None)
        case float() if not isinstance(value, Share):
            return f"{value:g}"
        case _:
            return str(value)


def _shown(value: object) -> str:
    return printable_line(shown_cell(value))
