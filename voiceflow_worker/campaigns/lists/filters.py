"""Say which rows call nobody: filters of columns as data, as people type them, and what they leave out of a list."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, cast

from voiceflow_worker.campaigns.lists.columns import columns_in, lacks_column, row_name
from voiceflow_worker.campaigns.lists.forbidden import forbids_calls
from voiceflow_worker.campaigns.lists.rows import Row
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, columns_text
from voiceflow_worker.model.flows.values import describe, is_list, written
from voiceflow_worker.model.text.wording import quoted


def are_alike(one: object, other: object) -> bool:
    """Return whether two values have the same text, in any case and with any white space."""
    return written(one).casefold().split() == written(other).casefold().split()


class Filter(NamedTuple):
    """The rows in whose column the cell has a value; with `is_not`, all others. No value is that of an empty cell."""

    column: str
    value: str
    is_not: bool = False

    @classmethod
    def of(cls, given: Mapping[Any, object]) -> Self:
        """Return the filter in an object `{"column", "value", "is"}`. Raises InvalidInputError."""
        column, value, is_ = (given.get(name, default) for name, default in _PARTS.items())
        is_right = isinstance(value, str | int | float | None) and type(is_) is bool
        if given.keys() - _PARTS.keys() or not is_right or not isinstance(column, str) or not column.strip():
            raise InvalidInputError(
                f'{quoted(given, most=60)} is no filter: write {{"column": "Status", "value": "Booked", "is": true}}'
            )
        return cls(column.strip(), "" if value is None else str(value).strip(), not is_)

    def as_json(self) -> dict[str, object]:
        """Return the filter as an object, as `of` reads it."""
        return {"column": self.column, "value": self.value, "is": not self.is_not}

    def has(self, cell: object) -> bool:
        """Return whether a cell, as `cell_of` gives it, has the value."""
        if not self.value or cell == "":
            return self.value == cell
        return are_alike(cell, self.value)

    @property
    def can_be_typed(self) -> bool:
        """True if its text is a filter: a column or a value that begins with a sign is given as data."""
        return self.value[:1] not in {"=", "!"} and self.column.lstrip(" !")[:1] not in {"", "="}

    def __str__(self) -> str:
        """Return the filter as people type it, as one of several in a text."""
        column, value = _spaced(self.column), _spaced(self.value)
        return columns_text([f"{column}{'!=' if self.is_not else '='}{value}"])


_PARTS: Mapping[str, object] = {"column": "", "value": None, "is": True}
Part = Filter | str
"""A filter, or the text of one that a person typed, which is read with the names of the columns."""
_EXAMPLE = "write Status=Booked for the rows with this value, or Status!=Booked for those with another or none"


def _spaced(text: str) -> str:
    return " ".join(text.split())


def parts_of(given: object) -> tuple[Part, ...]:
    """Return the filters in a text as people type them, in an object, or in a list of these.

    Raises InvalidInputError for what is no filter, whatever the columns are called.
    """
    if isinstance(given, Filter):
        return (given,)
    if isinstance(given, str):
        if not given.strip():
            raise InvalidInputError("it is empty: give a filter, or leave it out")
        typed = columns_in(given)
        for each in typed:
            name, sign, _ = each.partition("=")
            if not sign or not name.strip(" !"):
                raise InvalidInputError(f"{quoted(each, most=60)} is no filter: {_EXAMPLE}")
        return tuple(typed)
    if isinstance(given, Mapping):
        return (Filter.of(cast("Mapping[Any, object]", given)),)
    if is_list(given):
        items = (parts_of(columns_text([each]) if isinstance(each, str) else each) for each in given)
        return tuple(part for each in items for part in each)
    raise InvalidInputError(f"{quoted(given)} is {describe(given)}, and no filter; {_EXAMPLE}")


def read_filter(typed: str, names: Iterable[str]) -> Filter | None:
    """Return the filter that a person typed, with the name of the column as it is written; None if none is meant.

    Raises InvalidInputError for what is no filter, or has two readings.
    """
    by_key, found = {_plain_name(name): name for name in names}, list[Filter]()
    for match in re.finditer("=", typed):
        name, value = typed[: match.start()].rstrip(), typed[match.end() :].strip()
        for key, is_not in ((name, False), *(((name[:-1], True),) if name[-1:] == "!" else ())):
            if (column := by_key.get(_plain_name(key))) is not None:
                found.append(Filter(column.strip(), value, is_not))
    if len(found) > 1:
        both = " or ".join(json.dumps(each.as_json(), ensure_ascii=False) for each in found)
        raise InvalidInputError(f"{typed[:60]!r} has two readings. Give the one that is meant as data: {both}")
    if found and not found[0].can_be_typed:
        raise InvalidInputError(f"{typed[:60]!r} is no filter: {_EXAMPLE}")
    return found[0] if found else None


def _plain_name(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def cell_of(cell: object) -> object:
    """Return a cell as filters compare it, and as it is counted: an empty text if it is empty."""
    if isinstance(cell, str):
        return cell.strip()
    return "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else cell


@dataclass(slots=True)
class _Used:
    """A filter that is used for a list: as it was `given`, whether a cell had its value, and a cell of a called row."""

    given: Part
    is_only: bool
    filter: Filter
    is_held: bool = False
    other: object = ""

    @property
    def misses(self) -> bool:
        """True if it leaves nobody out by a column that says whom not to call, though its cells say something."""
        leaves_out = not self.is_only and not self.filter.is_not and not self.is_held
        return leaves_out and self.other != "" and forbids_calls(self.filter.column)


class RowFilter:
    """The rows that nobody is called for, by the fields `leave_out` and `only`.

    It is false if it leaves out no row at all. Raises InvalidInputError for what is no filter.
    """

    def __init__(self, leave_out: object, *, only: object = None) -> None:
        given = ((each, is_only) for of, is_only in ((leave_out, False), (only, True)) for each in parts_of(of or ()))
        self._used = [_Used(each, is_only, _likely(each)) for each, is_only in given]
        self._places: dict[tuple[str, ...], Sequence[tuple[_Used, int]]] = {}
        """For rows with these names, the filters of columns that they have, with their places."""

    def __bool__(self) -> bool:
        return bool(self._used)

    @property
    def columns(self) -> Sequence[str]:
        """Columns by which rows are left out, as the list has them."""
        return tuple({row_name(each.filter.column): each.filter.column for each in self._used}.values())

    def read(self, names: Sequence[str], *, key: tuple[str, ...], place: str) -> None:
        """Read what was typed, for rows with these columns. Rows of a table have the `key` `()`, others their names.

        Raises CampaignFileError for what is no filter, has two readings, or names a column that a table lacks.
        """
        places = {row_name(name): at for at, name in enumerate(names) if name.strip()}
        found: list[tuple[_Used, int]] = []
        for each in self._used:
            try:
                read = read_filter(each.given, names) if isinstance(each.given, str) else each.given
            except InvalidInputError as error:
                name = "only" if each.is_only else "leave_out"
                problem = Finding(column=name, message=str(error))
                raise CampaignFileError(f"{place}: {name}: {error}", [problem]) from None
            if read is not None and (at := places.get(row_name(read.column))) is not None:
                each.filter = read
                found.append((each, at))
            elif not key:
                raise lacks_column(each.filter.column, names, place=place)
        self._places[key] = found

    def reason(self, row: Row) -> tuple[str, str] | None:
        """Return the column that leaves this row out, and why; None for other rows."""
        found: tuple[str, str] | None = None
        wanted: dict[str, list[tuple[Filter, bool, str]]] = {}
        bad = {row_name(column or "") for column, _ in row.problems}
        cells = [
            (used, cell_of(row.cells[at]) if at < len(row.cells) else "")
            for used, at in self._places.get(row.names, ())
            if row_name(used.filter.column) not in bad  # the cell has an error
        ]
        for used, cell in cells:
            each = used.filter
            is_held, said = each.has(cell), f"holds {str(cell)[:40]!r}" if cell != "" else "is empty"
            used.is_held = used.is_held or is_held
            if used.is_only:
                wanted.setdefault(row_name(each.column), []).append((each, is_held, said))
            elif is_held is not each.is_not:
                found = found or (each.column, f"{said}, so this row is left out")
        for filters in wanted.values() if found is None else ():
            if not _is_wanted(filters):
                asked = (" and " if all(each.is_not for each, _, _ in filters) else " or ").join(
                    str(each) for each, _, _ in filters
                )
                return filters[0][0].column, f"{filters[0][2]}, and only {asked} is called"
        for used, cell in cells if found is None else ():
            used.other = used.other or cell
        return found

    def missed(self) -> Iterator[tuple[str, str]]:
        """Yield each column that says whom not to call and by which a filter leaves nobody out, with the error.

        Whether `TRUE` means the `yes` of a filter is not guessed: a person decides. All rows have been read.
        """
        for each in self._used:
            if each.misses:
                message = (
                    f"{each.filter} leaves out nobody, and cells hold other values, such as {str(each.other)[:40]!r}. "
                    "Leave out a value that the column has (`leave_out`), or say whom to call (`only`)."
                )
                yield each.filter.column, message

    def unused(self) -> Iterator[str]:
        """Yield a warning for each filter whose value no cell has. All rows have been read."""
        for used in self._used:
            if not (used.is_held or used.misses or used.is_only):
                whom = "each row, since no cell is so" if used.filter.is_not else "no row of this list"
                yield f"{used.filter} leaves out {whom}. Compare it with the list."


def _likely(given: Part) -> Filter:
    """Return the filter that a text probably is, before the names of columns are known."""
    if isinstance(given, Filter):
        return given
    name, _, value = given.partition("=")
    return Filter(name.removesuffix("!").strip(), value.strip(), name.endswith("!"))


def _is_wanted(filters: Sequence[tuple[Filter, bool, str]]) -> bool:
    """Return whether a cell has one of the values that `only` has for its column, if it has some, and none after !=."""
    values = [is_held for each, is_held, _ in filters if not each.is_not]
    return not any(is_held for each, is_held, _ in filters if each.is_not) and (any(values) or not values)
