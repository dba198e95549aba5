"""Which rows call nobody: filters of columns as data, what people type for them, and what they leave out of a list."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, Self, cast

from voiceflow_worker.campaigns.calls.values import Draft
from voiceflow_worker.campaigns.files.damage import is_remarkable, shown
from voiceflow_worker.campaigns.files.rows import RawRow, row_name
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, tell
from voiceflow_worker.model.flows.values import describe, is_list, is_object, written
from voiceflow_worker.model.text.json_text import distinct
from voiceflow_worker.model.text.wording import folded, quoted


def are_alike(one: object, other: object) -> bool:
    """Return whether two values have the same text, in any case and with any white space."""
    return written(one).casefold().split() == written(other).casefold().split()


class Filter(NamedTuple):
    """The rows in whose column, as the file has it, the cell has a value; with `is_not`, all others.

    No value is that of an empty cell.
    """

    column: str
    value: str
    is_not: bool = False

    @classmethod
    def of(cls, given: Mapping[Any, object]) -> Self:
        """The filter in an object `{"column", "value", "is"}`. Raises InvalidInputError."""
        column, value, is_ = (given.get(name, default) for name, default in _PARTS.items())
        if given.keys() - _PARTS.keys() or not isinstance(column, str) or not column.strip() or type(is_) is not bool:
            raise InvalidInputError(
                f'{quoted(given, most=60)} is no filter: write {{"column": "Status", "value": "Booked", "is": true}}'
            )
        return cls(column.strip(), _value_text(value), not is_)

    def as_json(self) -> dict[str, object]:
        """The filter as an object, as `of` reads it."""
        return {"column": self.column, "value": self.value, "is": not self.is_not}

    def has(self, cell: object) -> bool:
        """Whether a cell, as `cell_of` gives it, has the value."""
        if not self.value or cell == "":
            return self.value == cell
        return are_alike(cell, self.value)

    def is_of(self, column: str) -> bool:
        """Whether it is a filter of this column."""
        return row_name(column) == row_name(self.column)

    def __str__(self) -> str:
        """The filter as one of several in a text."""
        return _in_line(self.typed)

    @property
    def typed(self) -> str:
        """The filter as people type it, if that has one reading whatever other columns there are; else as JSON."""
        column, value = _spaced(self.column), _spaced(self.value)
        typed = f"{column}{'!=' if self.is_not else '='}{value}"
        if not folded(column) or typed.count("=") > 1 or value[:1] == "!" or typed[0] == "{":
            return self.as_text()
        return typed

    def as_text(self) -> str:
        """The object as JSON."""
        return json.dumps(self.as_json(), ensure_ascii=False)


_PARTS: Mapping[str, object] = {"column": "", "value": None, "is": True}
Part = Filter | str
"""A filter, or the text of one that a person typed, which is read with the names of the columns."""


def _value_text(value: object) -> str:
    """The value of a filter in JSON or TOML. Raises InvalidInputError."""
    if value is not None and not isinstance(value, str | int | float):
        raise InvalidInputError(f"{quoted(value)} is {describe(value)}, and no value of a cell; write it as a text")
    return "" if value is None else str(value).strip()


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _in_line(typed: str) -> str:
    """A text in a line of several with commas between them: in quotes, if it has one and is no object."""
    is_plain = typed[:1] == "{" or not {",", '"'} & {*typed}
    return typed if is_plain else '"' + typed.replace('"', '""') + '"'


_EXAMPLE = "write Status=Booked for the rows with this value, or Status!=Booked for those with another or none"
_PART = re.compile(r'\s*((?:"(?:[^"]|"")*")?[^,]*)(,?)')


def parts_of(given: object) -> tuple[Part, ...]:
    """The filters in a text as people type them, in an object, in a list, or in a table of columns with their values.

    Raises InvalidInputError for what is no filter, whatever the columns are called.
    """
    if isinstance(given, Filter):
        return (given,)
    if isinstance(given, str):
        if not given.strip():
            raise InvalidInputError("it is empty: give a filter, or leave it out")
        found = tuple(_typed_in(_spaced(given)))
    elif isinstance(given, Mapping):
        table = cast("Mapping[object, object]", given)
        found = (Filter.of(table),) if "column" in table else tuple(_in_table(table))
    elif is_list(given):
        items = (parts_of(_in_line(each) if isinstance(each, str) else each) for each in given)
        found = tuple(part for each in items for part in each)
    else:
        raise InvalidInputError(f"{quoted(given)} is {describe(given)}, and no filter; {_EXAMPLE}")
    for each in found:
        if isinstance(each, str) and not _readings(each):
            raise InvalidInputError(f"{each[:60]!r} is no filter: {_EXAMPLE}")
    return found


def _typed_in(text: str) -> Iterator[Part]:
    """The filters in a text: each as it is typed, in quotes if it has a comma, or as a JSON object."""
    sign = ","
    while sign:
        one, text, sign = _first_object(text) or _first_typed(text)
        yield one


def _first_typed(text: str) -> tuple[str, str, str]:
    match = cast("re.Match[str]", _PART.match(text))
    cells = next(csv.reader([match[1]]), None) or [""]
    return cells[0].strip(), text[match.end() :], match[2]


def _first_object(text: str) -> tuple[Filter, str, str] | None:
    try:
        found, end = json.JSONDecoder(object_pairs_hook=distinct).raw_decode(text.strip())
    except ValueError:
        return None
    rest = text.strip()[end:].strip()
    return (Filter.of(found), rest[1:], rest[:1]) if is_object(found) and rest[:1] in {"", ","} else None


def _in_table(table: Mapping[object, object]) -> Iterator[Filter]:
    for name, values in table.items():
        for each in values if is_list(values) else (values,):
            found = Filter(str(name).strip(), _value_text(each))
            if not found.value or _NO_NAME.fullmatch(found.column) or found.value[0] in "=!":
                told = f"{quoted(f'{name}={each}', most=60)} may be a column with a sign"
                raise InvalidInputError(f"{told}; if that is meant, write it as {found.as_text()}")
            yield found


def text_of_parts(parts: Iterable[Part], *, typed: bool = False) -> str:
    """These filters in one text: those that are data as objects, or if `typed`, as people type them."""
    texts = (each if isinstance(each, str) else each.typed if typed else each.as_text() for each in parts)
    return ",".join(map(_in_line, texts))


def filters_value(parts: Sequence[Part]) -> object:
    """These filters as JSON and TOML have them: as they were typed, or as objects."""
    if all(isinstance(each, str) for each in parts):
        return text_of_parts(parts)
    return [each if isinstance(each, str) else each.as_json() for each in parts]


_NO_NAME = re.compile(r"!.*|.*[!=<>~^*|]", re.DOTALL)
"""What no column is called, unless there is one: `!Status`, and what is left of `Status>=`. Folded names lose signs."""


def _readings(typed: str) -> Sequence[Filter]:
    """Every column and value that a text may mean, the likely ones first."""
    found: list[Filter] = []
    for match in re.finditer("=", typed):
        name, value = typed[: match.start()].rstrip(), typed[match.end() :].strip()
        both = [Filter(name[:-1].rstrip(), value, is_not=True)] if name[-1:] == "!" else []
        found += filter(itemgetter(0), [*both, Filter(name, value)])
    return found


def read_filter(typed: str, names: Iterable[str]) -> Filter | None:
    """The filter that a person typed, with the names of the columns as they are written; None if no column is meant.

    A column that is called exactly so wins. Raises InvalidInputError for what is no filter, or has two readings.
    """
    written, by_key = dict[str, str](), dict[str, str]()
    for name in names:
        written.setdefault(_spaced(name), name)
        by_key.setdefault(row_name(name), name)

    def is_near(column: str) -> bool:
        name = by_key.get(row_name(column))
        return name is not None and (_NO_NAME.fullmatch(column) is None or _unspaced(name) == _unspaced(column))

    every = _readings(typed)
    found = [each._replace(column=written[name]) for each in every if (name := _spaced(each.column)) in written]
    found = found or [each._replace(column=by_key[row_name(each.column)]) for each in every if is_near(each.column)]
    if len(found) > 1:
        both = " or ".join(each.as_text() for each in found[:2])
        raise InvalidInputError(f"{typed[:60]!r} has two readings; write the one that is meant: {both}")
    likely = found[0] if found else every[0]
    if likely.value[:1] in {"=", "!"} or (not found and _NO_NAME.fullmatch(likely.column)):
        more = f"; if that is meant, write it as {likely.as_text()}" if found else ""
        raise InvalidInputError(f"{typed[:60]!r} is no filter: {_EXAMPLE}{more}")
    return likely if found else None


def _unspaced(name: str) -> str:
    return "".join(name.casefold().split())


def _have_all_rows(one: Filter, other: Filter) -> bool:
    """Whether each row is one of the one or of the other, which are of the same column."""
    is_same = are_alike(one.value, other.value)
    return not is_same if one.is_not and other.is_not else is_same and one.is_not is not other.is_not


def cell_of(cell: object) -> object:
    """A cell of a file as filters compare it, and as it is counted: an empty text if it is empty."""
    if isinstance(cell, str):
        return shown(cell) if is_remarkable(cell) else cell.strip()
    return "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else cell


def renamed(column: str, columns: Mapping[str, str]) -> str:
    """The name in rows of a column that is named by either of its names, of which `columns` are those that changed."""
    found = (
        name for name, old in columns.items() if row_name(old) == row_name(column) and row_name(old) not in columns
    )
    return next(found, column)


@dataclass(slots=True)
class _Used:
    """A filter that is used for a list: what was `given`, and what that is, if it `is_read`."""

    given: Part
    is_only: bool
    filter: Filter
    is_read: bool = False
    is_held: bool = False
    """Whether a cell had its value so far."""

    def read(self, names: Iterable[str]) -> Filter | None:
        """What it is in rows with these columns; None if they lack its column. Raises InvalidInputError."""
        found = read_filter(self.given, names) if isinstance(self.given, str) else self.given
        if found is not None and self.is_read and found[1:] != self.filter[1:]:
            raise InvalidInputError(f"{self.given!r} has two readings, because rows have other columns")
        return found


class LeftOut:
    """The rows that nobody is called for, by the fields `leave_out` and `only`.

    `renames` are the columns that have another name in rows: they may be named by either. It is false if it leaves out
    no row at all. Raises InvalidInputError for what is no filter.
    """

    _SIGNS = re.compile(r"""[*|;=^]|\w\?|^[<>~]|^/.+/|[^\d\s]%|^["'\u2018-\u201f«].*["'\u2018-\u201f»]$""")
    """What a pattern, a list or a quotation has, and a value that is compared whole has only if a cell has it too."""

    def __init__(
        self,
        leave_out: object,
        renames: Mapping[str, str],
        *,
        only: object = None,
    ) -> None:
        given = ((each, is_only) for of, is_only in ((leave_out, False), (only, True)) for each in parts_of(of or ()))
        self._used = [
            _Used(each, is_only, _readings(each)[0] if isinstance(each, str) else each) for each, is_only in given
        ]
        self._renames = renames
        self.typed: frozenset[str] = frozenset(row_name(each.filter.column) for each in self._used)
        """The keys of these columns by the names that the filters give them."""
        self.columns: Sequence[str] = self._columns()
        """The columns by which rows are left out, by their names in rows."""
        self._places: dict[tuple[str, ...], Sequence[tuple[_Used, int]]] = {}
        """For rows with these names, the filters of columns that they have, with their places."""
        self._is_wanted = False
        """Whether a row has been all that `only` asks for."""

    def __bool__(self) -> bool:
        return bool(self._used)

    def _columns(self) -> Sequence[str]:
        names = (renamed(each.filter.column, self._renames) for each in self._used)
        return tuple({row_name(name): name for name in names}.values())

    def read(self, names: Sequence[str], *, key: tuple[str, ...], place: str) -> None:
        """Read what was typed, for rows with these columns. Rows of a table have the `key` `()`, others their names.

        Raises CampaignFileError for what is no filter, or has two readings.
        """
        own = {row_name(name): at for at, name in enumerate(names) if name.strip()}
        new = {name: own[row_name(old)] for name, old in self._renames.items() if row_name(old) in own}
        written = [name.strip() for name in names if name.strip() and row_name(name) not in new]
        found, places = list[tuple[_Used, int]](), {**own, **new}
        for each in self._used:
            try:
                read = each.read([*written, *new])
                at = None if read is None else places.get(row_name(read.column))
                if read is not None and at is not None:
                    each.filter, each.is_read = read, True
                    found.append((each, at))
                self._refuse_all_rows(each)
            except InvalidInputError as error:
                name = "only" if each.is_only else "leave_out"
                problem = Finding(column=name, message=str(error))
                raise CampaignFileError(f"{place}: {name}: {error}", [problem]) from None
        self._places[key], self.columns = found, self._columns()

    def _refuse_all_rows(self, used: _Used) -> None:
        one = used.filter
        out = (
            each.filter for each in self._used if not (each.is_only or used.is_only) and each.filter.is_of(one.column)
        )
        if both := next((each for each in out if _have_all_rows(each, one)), None):
            raise InvalidInputError(f"{both} and {one} together are all rows: give one of them, or name the values")

    def why(self, raw: RawRow, draft: Draft | None) -> tuple[str | None, str] | None:
        """The column that leaves this row out, if it is one, and why; None for other rows."""
        if draft is None or not self._used:
            return None
        found: tuple[str | None, str] | None = None
        wanted = dict[str, list[tuple[Filter, bool, str]]]()
        for used, at in self._places[raw.names]:
            each, cell = used.filter, cell_of(raw.cells[at]) if at < len(raw.cells) else ""
            column = renamed(each.column, self._renames)
            if row_name(column) not in draft.variables and (used.is_only or each.is_not):
                continue  # what is wrong with the cell is told
            is_held, said = each.has(cell), f"holds {str(cell)[:40]!r}" if cell != "" else "is empty"
            used.is_held = used.is_held or is_held
            if used.is_only:
                wanted.setdefault(row_name(column), []).append((each, is_held, said))
            elif is_held is not each.is_not:
                found = found or (column, f"{said}, so this row is left out")
        unwanted = [each for each in wanted.values() if not _is_wanted(each)]
        self._is_wanted = self._is_wanted or not unwanted
        if unwanted and found is None:
            filters = [each for each, _, _ in unwanted[0]]
            asked = (" and " if all(each.is_not for each in filters) else " or ").join(map(str, filters))
            return renamed(filters[0].column, self._renames), f"{unwanted[0][0][2]}, and only {asked} is called"
        return found

    def told(self) -> Iterator[str]:
        """What is told when all rows are read: what has left out nobody, and what asks for rows that are not there."""
        wanted = [each for each in self._used if each.is_only]
        unheld = [each.filter for each in wanted if not (each.is_held or each.filter.is_not)]
        for each in unheld:
            why = f"no cell of {each.column} {f'holds {each.value!r}' if each.value else 'is empty'}"
            yield tell("only_calls_nobody", only=str(each), why=why)
        if wanted and not unheld and not self._is_wanted:
            both_asked = ", ".join(str(each.filter) for each in wanted)
            yield tell("only_calls_nobody", only=both_asked, why="no row has all of that")
        for used in self._used_in_vain():
            each = used.filter
            whom = "each row, since no cell is so" if each.is_not else "no row of this list"
            yield tell("leaves_out_nobody", leave_out=str(each), whom=whom)

    def _used_in_vain(self) -> Iterator[_Used]:
        return (each for each in self._used if not (each.is_only or each.is_held))

    def wrong(self) -> tuple[str, str] | None:
        """A column with what is wrong with its filter, when all rows are read: a pattern whose value no cell holds."""
        typed = (each.filter for each in self._used_in_vain() if isinstance(each.given, str))
        if (each := next((each for each in typed if self._SIGNS.search(each.value)), None)) is None:
            return None
        return each.column, (
            f"leave_out {each}: no cell of {each.column} holds {each.value!r}, and a value is compared whole, never as "
            "a pattern: write each value as it stands"
        )


def _is_wanted(filters: Sequence[tuple[Filter, bool, str]]) -> bool:
    """Whether a cell has one of the values that `only` has for its column, if it has some, and none after !=."""
    values = [is_held for each, is_held, _ in filters if not each.is_not]
    return not any(is_held for each, is_held, _ in filters if each.is_not) and (any(values) or not values)
