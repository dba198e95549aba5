"""Show a list to the person who uploads it: its sheets, its columns, its first rows, and which column is called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from voiceflow_worker.campaigns.lists.columns import DESTINATION, is_number_column, near_destination, row_name
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.source import open_list
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.numbers.phone import FEWEST_DIGITS

_LOOKED_AT, _SHOWN, _LONGEST = 200, 5, 60
_PHONE = re.compile(r"[+0-9(][0-9 ()./-]*")
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b.*", re.DOTALL)
_TIME = re.compile(r"\d{1,2}[:.]\d\d(:00)?( ?[ap]\.?m\.?)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPreview:
    """The first `rows` of a list, by their cells. It has no columns if it has several `sheets`, and none was chosen.

    `columns` has for each what a text has in it to speak the column. `number_column` is probably the one of the
    numbers to call.
    """

    columns: Mapping[str, str]
    number_column: str | None = None
    rows: Sequence[Sequence[str]] = ()
    sheets: Sequence[str] = ()


def preview_list(
    file: InputFile, *, sheet: str | None = None, header_row: int | None = None, encoding: str | None = None
) -> ListPreview:
    """Read the first rows of a file. Raises CampaignFileError."""
    try:
        source = open_list(file, sheet=sheet, header_row=header_row, encoding=encoding)
    except CampaignFileError as error:
        if not error.sheets or sheet:
            raise
        return ListPreview(columns={}, sheets=error.sheets)
    rows = [source.cells_of(row) for row in islice(source, _LOOKED_AT)]
    names = [name for name in source.header or dict.fromkeys(name for row in rows for name in row) if name.strip()]
    cells = [["" if (cell := row.get(name)) is None else str(cell).strip() for name in names] for row in rows]
    values = {name: [*filter(None, (row[place] for row in cells))] for place, name in enumerate(names)}
    return ListPreview(
        columns={name: f"{{{{{row_name(name)}{_filter_of(given)}}}}}" for name, given in values.items()},
        number_column=_number_column(values),
        rows=[[cell[:_LONGEST] for cell in row] for row in cells[:_SHOWN]],
        sheets=source.sheets,
    )


def _filter_of(values: Sequence[str]) -> str:
    """Return the filter with which a text speaks a column with these values."""
    of = {"|date": _DATE, "|time": _TIME}
    return next((name for name, form in of.items() if values and all(map(form.fullmatch, values))), "")


def _number_column(values: Mapping[str, Sequence[str]]) -> str | None:
    """Return the one column of numbers to call: by its name, of those that hold numbers; None if several may be it."""
    if (own := next((name for name in values if row_name(name) == DESTINATION), None)) is not None:
        return own
    phones = [name for name, given in values.items() if 2 * sum(map(_is_phone, given)) > len(given)]
    named = [name for name in phones if is_number_column(name)]
    if named or not phones:
        return near_destination(named or [*values])
    return phones[0] if len(phones) == 1 else None


def _is_phone(value: str) -> bool:
    is_written_so = _PHONE.fullmatch(value) is not None and _DATE.fullmatch(value) is None
    return is_written_so and sum(map(str.isdigit, value)) >= FEWEST_DIGITS
