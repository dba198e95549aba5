"""Show a list to the person who uploads it: its sheets, its columns and its first rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from voiceflow_worker.campaigns.lists.column_detection import DetectedColumns, detect_columns
from voiceflow_worker.campaigns.lists.columns import row_name
from voiceflow_worker.campaigns.lists.forbidden import forbids_calls
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.times import DateOrder

_SHOWN, _LONGEST = 5, 60
_TIME = re.compile(r"\d{1,2}[:.]\d\d(:00)?( ?[ap]\.?m\.?)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ShownColumn:
    """A column: its `name` in the file, and what a text has in it to speak the column (`insert`)."""

    name: str
    insert: str
    forbids_calls: bool
    """Whether its name says whom not to call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPreview:
    """What is shown of a list. It has no columns if it has several sheets, and none was chosen.

    `roles` are the columns of the numbers to call, and of their countries, by their roles. `date_orders` are the orders
    in which all dates can be read; None if no date needs one. `rows` are the first rows, each by its cells.
    """

    columns: Sequence[ShownColumn] = ()
    roles: Mapping[str, str]
    date_orders: Sequence[DateOrder] | None = None
    rows: Sequence[Sequence[str]] = ()
    sheets: Sequence[str] = ()


def preview_list(
    file: InputFile, *, sheet: str | None = None, header_row: int | None = None, encoding: str | None = None
) -> ListPreview:
    """Read the first rows of a file. Raises CampaignFileError."""
    try:
        found = detect_columns(file, sheet=sheet, header_row=header_row, encoding=encoding)
    except CampaignFileError as error:
        if not error.sheets or sheet:
            raise
        return ListPreview(roles={}, sheets=error.sheets)
    return ListPreview(
        columns=tuple(_columns(found)),
        roles=found.roles,
        date_orders=found.date_orders,
        rows=[[value[:_LONGEST] for value in each] for each in _first(found)],
        sheets=found.source.sheets,
    )


def _columns(found: DetectedColumns) -> Iterator[ShownColumn]:
    for name, values in found.values.items():
        given = list(filter(None, values))
        is_time = bool(given) and all(map(_TIME.fullmatch, given))
        spoken_as = "|date" if name in found.days else "|time" if is_time else ""
        yield ShownColumn(name, f"{{{{{row_name(name)}{spoken_as}}}}}", forbids_calls(name))


def _first(found: DetectedColumns) -> Iterator[Sequence[str]]:
    for row in found.rows[:_SHOWN]:
        cells = found.source.cells_of(row)
        yield ["" if (cell := cells.get(name)) is None else str(cell).strip() for name in found.values]
