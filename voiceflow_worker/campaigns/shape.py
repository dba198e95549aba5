"""The shape of a list, proposed from its names and first rows: header, what columns are, and the order of dates.

Whoever gives a list says what it is; what is proposed here is what they are asked about, on the page and by `check`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import (
    COUNTRY,
    DESTINATION,
    ColumnReader,
    ColumnRoles,
    RawRow,
    RowSource,
    canonical_name,
    is_number_column,
    is_plain_number_column,
    near_destination,
    no_destination,
    row_name,
)
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Remedy, message_of, tell
from voiceflow_worker.model.numbers.phone import FEWEST_DIGITS, country_of, kind_of
from voiceflow_worker.model.numbers.reading import read_country, read_number
from voiceflow_worker.model.times import DateOrder

LOOKED_AT = 200
"""The rows that are looked at."""
_LOWEST_HEADER = 10
_PHONE = re.compile(r"[+0-9(][0-9 ()./-]*")
_DATE = re.compile(r"(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})\b")
_ISO_DATE = re.compile(r"\d{4}-(0?[1-9]|1[0-2])-(0?[1-9]|[12]\d|3[01])\b")
_COUNTRIES = ("country", "country_code", "country_name", "land", "negara", "pais", "pays")
_PLACES = {DateOrder.DMY: (2, 1, 0), DateOrder.MDY: (2, 0, 1), DateOrder.YMD: (0, 1, 2)}
"""For each order, the places of year, month and day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListShape:
    """The shape of a list that is open: its first `rows`, the `others`, and the `values` of its columns in the first.

    `roles` are the columns of the numbers to call, and of their countries, by their roles; `days` those of
    dates. `date_orders` are the orders in which all dates can be read; None if there are no such dates.
    """

    source: RowSource
    rows: Sequence[RawRow]
    others: Iterator[RawRow]
    values: Mapping[str, Sequence[str]]
    roles: Mapping[str, str]
    days: frozenset[str]
    date_orders: tuple[DateOrder, ...] | None

    @property
    def header_row(self) -> int | None:
        """The row of the header, if titles stand above it."""
        return self.source.header_row if self.source.header_row not in {None, 1} else None

    def as_options(self) -> str:
        """What has to be said of the list, as it is typed; empty if nothing has."""
        named = {role: column for role, column in self.roles.items() if row_name(column) != role}
        columns = ColumnRoles.of(named).as_text() if named else ""
        quoted = f"'{columns}'" if re.search(r"[^\w=,.+-]", columns) else columns
        order = self.date_orders[0] if self.date_orders and len(self.date_orders) == 1 else ""
        said = (("columns", quoted), ("header-row", self.header_row or ""), ("date-order", order))
        return " ".join(f"--{name} {value}" for name, value in said if value)


def shape_of(
    file: InputFile, *, sheet: str | None = None, header_row: int | None = None, usual: Sequence[str] = ()
) -> ListShape:
    """The shape of a list whose national numbers are probably of the `usual` countries. Raises CampaignFileError."""
    source, numbers = _opened(file, sheet, header_row)
    left = iter(source)
    rows = list(islice(left, LOOKED_AT))
    names = source.header or tuple(dict.fromkeys(name for row in rows for name in row.names))
    values = {name: _values(source, rows, place, name) for place, name in enumerate(names) if name.strip()}
    if numbers is None and not source.kind.is_table:
        numbers = next((name for name in values if row_name(name) == DESTINATION), near_destination(values))
    if numbers is None or canonical_name(numbers) != DESTINATION:
        numbers = _to_call(values, usual)
    if numbers is None and header_row is None:  # perhaps titles of several cells stand above
        wider = (row.number for row in rows[:_LOWEST_HEADER] if sum(map(bool, row.cells)) > sum(map(bool, names)))
        for row in wider:
            with suppress(CampaignFileError):
                below = shape_of(file, sheet=sheet, header_row=row, usual=usual)
                if DESTINATION in below.roles and _has_titles(below.source):
                    return below
    of_roles = {
        COUNTRY: next((name for name, given in values.items() if _are_countries(name, given)), None),
        DESTINATION: numbers,
    }
    dates = {name: fit for name, given in values.items() if (fit := _orders(given)) is not None}
    orders = tuple(order for order in DateOrder if all(order in each for each in dates.values()))
    return ListShape(
        source=source,
        rows=rows,
        others=left,
        values=values,
        roles={role: name for role, name in of_roles.items() if name is not None},
        days=frozenset({*dates, *(name for name, given in values.items() if _are_iso_dates(given))}),
        date_orders=orders if dates else None,
    )


def usual_countries(country: str | None, source: str | None) -> Sequence[str]:
    """The countries whose national numbers a list probably has, by the one that is said, and by the source."""
    return [*filter(None, (country, country_of(source or "")))]


def proposed(
    error: CampaignFileError, file: InputFile, *, sheet: str | None, header_row: int | None, usual: Sequence[str] = ()
) -> CampaignFileError:
    """The error for a list whose header cannot be used, with the column and the row that its shape has, to be typed."""
    if not error.columns:
        return error
    try:
        shape = shape_of(file, sheet=sheet, header_row=header_row, usual=usual)
    except CampaignFileError:
        return error
    told, row = message_of(error), shape.header_row if header_row is None else None
    columns: Sequence[str] = error.columns
    if row is not None:
        columns = [*filter(None, map(str.strip, shape.source.header))]
    if told.kind == "no_destination" and row_name(numbers := shape.roles.get(DESTINATION) or "") != DESTINATION:
        told = message_of(no_destination(told.values["file"], numbers, columns))
    if row is not None:
        told = told.plus(hint := tell("header_below", row=row), hint).giving({Remedy.NAME_HEADER: str(row)})
    return CampaignFileError(told, columns=columns)


def _to_call(values: Mapping[str, Sequence[str]], usual: Sequence[str]) -> str | None:
    """The column of the numbers to call, of those that have numbers, and of these, of those whose names say so.

    It is the one with most mobiles, of those whose names say no more, such as whose they are: whether a doctor's phone
    or a patient's is meant is not certain. Of several whose names say nothing, it must have more than each other.
    """
    phones = {name: given for name, given in values.items() if any(given) and are_phones(given)}
    named = [name for name in phones if is_number_column(name)]
    plain = [name for name in named if is_plain_number_column(name)]
    likely = plain or named or [name for name in phones if not all(map(_DATE.match, filter(None, phones[name])))]
    near, shares = near_destination(named), {name: _mobiles(phones[name], usual) for name in likely}
    likely.sort(key=lambda name: (shares[name], name == near), reverse=True)
    if not likely:
        return near_destination(values)
    is_certain = plain or len(likely) == 1 or (not named and shares[likely[0]] > shares[likely[1]])
    return likely[0] if is_certain else None


def _mobiles(numbers: Sequence[str], usual: Sequence[str]) -> float:
    """The share of mobiles among numbers, by their plans."""
    given = list(filter(None, numbers))
    country, kinds = country_among(given, usual), Counter[str]()
    for each in given:
        with suppress(InvalidInputError):
            kinds[kind_of(read_number(each, country))] += 1
    return kinds["mobile"] / len(given)


def country_among(numbers: Sequence[str], usual: Sequence[str]) -> str | None:
    """The one of the usual countries of which most of these are numbers; None if it is none."""
    counts = Counter[str]()
    for country in dict.fromkeys(usual):
        for each in numbers:
            with suppress(PhoneNumberError):
                counts[country] += bool(read_number(each, country))
    found, count = next(iter(counts.most_common(1)), (None, 0))
    return found if count and 2 * count >= len(numbers) else None


def _opened(file: InputFile, sheet: str | None, header_row: int | None) -> tuple[RowSource, str | None]:
    """The rows of a file, and its column of numbers: `destination`, or the one whose name is most like it.

    Without a `header_row`, titles above the header are passed over: if a row below them has such a column, or if they
    have a single cell, and a row below them has several.
    """
    try:
        source = open_source(file, sheet=sheet, header_row=header_row)
    except CampaignFileError as error:
        likely, is_title = near_destination(error.columns), sum(map(bool, error.columns)) == 1
        alone: tuple[RowSource, str | None] | None = None
        for row in range(2, _LOWEST_HEADER + 1) if (likely is None or is_title) and header_row is None else ():
            with suppress(CampaignFileError):
                try:
                    open_source(file, sheet=sheet, header_row=row)
                except CampaignFileError as below:
                    if near_destination(below.columns) is None and not (is_title and len(below.columns) > 1):
                        continue
                found = _opened(file, sheet, row)
                if not _has_titles(found[0]):
                    continue
                if len(found[0].header) > 1:
                    return found
                alone = alone or found
        if alone is not None:
            return alone
        if not error.columns:
            raise
        columns = ColumnReader(ColumnRoles(numbers=(likely or error.columns[0],)))
        return open_source(file, sheet=sheet, header_row=header_row, columns=columns), likely
    return source, next((name for name in source.header if canonical_name(name) == DESTINATION), None)


def _has_titles(source: RowSource) -> bool:
    """Whether what stands above the header are no people."""
    above = (each for _, cells in source.above if len(cells) > 1 for each in cells)
    return not any(is_phone(each) and not _DATE.match(each) for each in above)


def _values(source: RowSource, rows: Iterable[RawRow], place: int, name: str) -> list[str]:
    if source.kind.is_table:
        return [row.cells[place].strip() for row in rows if place < len(row.cells)]
    return [str(value).strip() for row in rows if (value := row.data.get(name)) is not None]


def _are_countries(name: str, values: Sequence[str]) -> bool:
    """Whether a column has the name of one of countries, and they are certain."""
    given = set(filter(None, values))
    try:
        return row_name(name) in _COUNTRIES and bool(given) and all(map(read_country, given))
    except InvalidInputError:
        return False


def _are_iso_dates(values: Sequence[str]) -> bool:
    given = list(filter(None, values))
    return bool(given) and all(map(_ISO_DATE.match, given))


def _orders(values: Sequence[str]) -> set[DateOrder] | None:
    """The orders in which all of these values are dates; None if they are no dates, or need no order."""
    found = [match for value in values if value and (match := _DATE.match(value))]
    if not found or len(found) < len(list(filter(None, values))):
        return None
    parts = [tuple(map(int, match.groups())) for match in found]
    fitting = {
        order
        for order, (year, month, day) in _PLACES.items()
        if all(1 <= each[month] <= 12 and 1 <= each[day] <= 31 for each in parts)
        and all(len(match[year + 1]) in {2, 4} for match in found)
        and (order is DateOrder.YMD) == all(len(match[1]) == 4 for match in found)
    }
    is_iso = all("-" in match[0] and len(match[1]) == 4 for match in found)
    return None if is_iso else fitting


def are_phones(values: Sequence[str]) -> bool:
    """Whether most of these are telephone numbers."""
    given = [each.lstrip("'") for each in values if each]
    return 2 * sum(map(is_phone, given)) > len(given)


def is_phone(value: str) -> bool:
    """Whether a cell is written as a telephone number."""
    return bool(_PHONE.fullmatch(value)) and sum(map(str.isdigit, value)) >= FEWEST_DIGITS
