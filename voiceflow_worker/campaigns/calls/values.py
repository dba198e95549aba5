"""The values of a row: reserved columns, template variables, and the request body."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from voiceflow_worker.campaigns.calls.times import DateOrder, with_iso_date
from voiceflow_worker.campaigns.files.rows import DESTINATION, REASON, RESERVED, RawRow, canonical_name, row_name
from voiceflow_worker.model.flows.values import describe, is_list
from voiceflow_worker.model.text.names import folded

_TIMES = frozenset({"not_before", "valid_until"})
_OWN = frozenset({DESTINATION, REASON, *RESERVED})


@dataclass(slots=True)
class RowValues:
    """The values of one row. Texts are trimmed; empty and null values are not in `reserved`.

    `variables` is the dictionary of the row: every column but `reason`, under its folded name.
    """

    reserved: dict[str, str] = field(default_factory=dict[str, str])
    variables: dict[str, object] = field(default_factory=dict[str, object])
    data: dict[str, object] = field(default_factory=dict[str, object])
    """The part of the dictionary that is stored with the call: the columns that are not reserved."""
    body: dict[str, object] = field(default_factory=dict[str, object])
    problems: list[tuple[str, int | None, str]] = field(default_factory=list[tuple[str, int | None, str]])
    """A tuple (column, 8x8 code, message) for each value that cannot be used."""


class CsvValues:
    """The reader of the values of a table's rows. It parses the header once."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._reserved = [(index, name) for index, name in enumerate(columns) if name in _OWN and name != REASON]
        self._variables = [(index, row_name(name)) for index, name in enumerate(columns) if name and name != REASON]
        self._data = [(index, name) for index, name in self._variables if name not in _OWN]
        self.variables: frozenset[str] = frozenset(variable for _, variable in self._variables)
        # A spreadsheet widens the header by columns without a name if one row has too many cells.
        self._nameless = range(max((index for index, name in enumerate(columns, 1) if name), default=0), len(columns))

    def __call__(self, raw: RawRow) -> RowValues:
        """The values of a row. The row must have as many cells as the header."""
        cells = [cell.strip() for cell in raw.cells]
        return RowValues(
            reserved={name: cells[index] for index, name in self._reserved if cells[index]},
            variables={name: cells[index] for index, name in self._variables},
            data={name: cells[index] for index, name in self._data},
            problems=[
                ("", None, f"has {cells[index]!r} after the last named column; name its column, or correct the row")
                for index in self._nameless
                if cells[index]
            ],
        )


def json_values(raw: RawRow, *, is_body: bool, number_column: str | None = None) -> RowValues:
    """The values of a JSON object: a row, or, if `is_body`, a request body that may have reserved columns."""
    values = RowValues()
    numbers = row_name(number_column) if number_column is not None else None
    for key, value in raw.data.items():
        name = key if is_body else DESTINATION if row_name(key) == numbers else canonical_name(key)
        if name in _OWN:
            if name != REASON:
                _take_reserved(values, name, value)
        elif is_body:
            values.body[key] = value
        if is_body or name == REASON:
            continue
        name = row_name(name)
        if name in values.variables:
            values.problems.append((key, None, f"stands twice in the row, as {name}; rename or remove one"))
        trimmed = value.strip() if isinstance(value, str) else value
        values.variables[name] = trimmed
        if name not in _OWN:
            # The job's data is flat: a nested value becomes a JSON text.
            is_flat = trimmed is None or isinstance(trimmed, str | int | float)
            values.data[name] = trimmed if is_flat else json.dumps(trimmed, ensure_ascii=False)
    return values


def write_dates_out(values: RowValues, order: DateOrder) -> None:
    """Write the dates in the times and in the own columns of a row as 2030-01-31, in place."""
    wrong: dict[str, str] = {}
    for texts in (values.reserved, values.variables, values.data):
        for name, value in texts.items():
            if isinstance(value, str) and (name not in _OWN or name in _TIMES):
                try:
                    texts[name] = with_iso_date(value, order)
                except ValueError as error:
                    wrong[name] = str(error)
    values.problems += [(name, None, message) for name, message in wrong.items()]


def _take_reserved(values: RowValues, name: str, value: object) -> None:
    match value:
        case None:
            return
        case str():
            text = value.strip()
        case bool():
            values.problems.append((name, -1009, f"should be a text, not {describe(value)}"))
            return
        case float() if name in {DESTINATION, "source"} and not value.is_integer():
            problem = f"holds {value}, which is not a phone number; write the number as a text"
            values.problems.append((name, -1017 if name == DESTINATION else -1009, problem))
            return
        case int() | float():
            text = str(value)
        case _ if is_list(value) and name == DESTINATION:
            values.problems.append((name, -1011, "holds several numbers; give each number its own row"))
            return
        case _:
            values.problems.append((name, -1009, f"should be a text, not {describe(value)}"))
            return
    if text:
        values.reserved[name] = text


def is_used(name: str, variables: Mapping[str, object] | frozenset[str]) -> bool:
    """True if a template with these variables uses a column of this name."""
    return row_name(name) in set(map(folded, variables))
