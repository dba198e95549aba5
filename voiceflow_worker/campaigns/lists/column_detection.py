"""Propose what the columns of a list are, from their names and its first rows: the page and `check` ask about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from voiceflow_worker.campaigns.lists.columns import (
    COUNTRY,
    DESTINATION,
    is_number_column,
    near_destination,
    row_name,
)
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.rows import OpenList, Row
from voiceflow_worker.campaigns.lists.source import open_list
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.numbers.phone import FEWEST_DIGITS
from voiceflow_worker.model.numbers.reading import read_country
from voiceflow_worker.model.times import DateOrder

LOOKED_AT = 200
"""The rows that are looked at."""
_PHONE = re.compile(r"[+0-9(][0-9 ()./-]*")
_DATE = re.compile(r"(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})\b")
_ISO_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}\b")
_COUNTRIES = ("country", "country_code", "country_name", "land", "negara", "pais", "pays")
_PLACES = {DateOrder.DMY: (2, 1, 0), DateOrder.MDY: (2, 0, 1), DateOrder.YMD: (0, 1, 2)}
"""For each order, the places of year, month and day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedColumns:
    """What an open list probably is: its first `rows`, and the `values` of its columns in the first.

    `roles` are the columns of the numbers to call, and of their countries, by their roles; `days` those of
    dates. `date_orders` are the orders in which all dates can be read; None if there are no such dates.
    """

    source: OpenList
    rows: Sequence[Row]
    values: Mapping[str, Sequence[str]]
    roles: Mapping[str, str]
    days: frozenset[str]
    date_orders: tuple[DateOrder, ...] | None


def detect_columns(
    file: InputFile, *, sheet: str | None = None, header_row: int | None = None, encoding: str | None = None
) -> DetectedColumns:
    """Return what the columns of a list probably are. Raises CampaignFileError."""
    source = open_list(file, sheet=sheet, header_row=header_row, encoding=encoding)
    rows = list(islice(source, LOOKED_AT))
    names = source.header or tuple(dict.fromkeys(name for row in rows for name in row.names))
    values = {
        name: [str(each).strip() for row in rows if (each := source.cells_of(row).get(name)) is not None]
        for name in names
        if name.strip()
    }
    of_roles = {
        COUNTRY: next((name for name, given in values.items() if _are_countries(name, given)), None),
        DESTINATION: _to_call(values),
    }
    dates = {name: fit for name, given in values.items() if (fit := _orders(given)) is not None}
    ordered = [fit for name, fit in dates.items() if not all(map(_ISO_DATE.match, filter(None, values[name])))]
    orders = tuple(order for order in DateOrder if all(order in each for each in ordered))
    return DetectedColumns(
        source=source,
        rows=rows,
        values=values,
        roles={role: name for role, name in of_roles.items() if name is not None},
        days=frozenset(dates),
        date_orders=orders if ordered else None,
    )


def _to_call(values: Mapping[str, Sequence[str]]) -> str | None:
    """Return the one column of numbers to call: by its name, of those that hold numbers; None if several may be it."""
    if (own := next((name for name in values if row_name(name) == DESTINATION), None)) is not None:
        return own
    phones = [name for name, given in values.items() if are_phones(given) and not all(map(_DATE.match, given))]
    named = [name for name in phones if is_number_column(name)]
    if named or not phones:
        return near_destination(named or [*values])
    return phones[0] if len(phones) == 1 else None


def _are_countries(name: str, values: Sequence[str]) -> bool:
    """Return whether a column has the name of one of countries, and only countries in it."""
    given = {*filter(None, values)}
    try:
        return row_name(name) in _COUNTRIES and bool(given) and all(map(read_country, given))
    except InvalidInputError:
        return False


def _orders(values: Sequence[str]) -> set[DateOrder] | None:
    """Return the orders in which all of these values are dates; None if they are no dates."""
    given = list(filter(None, values))
    found = [match for value in given if (match := _DATE.match(value))]
    if not found or len(found) < len(given):
        return None
    parts = [tuple(map(int, match.groups())) for match in found]
    fitting = {
        order
        for order, (year, month, day) in _PLACES.items()
        if all(1 <= each[month] <= 12 and 1 <= each[day] <= 31 for each in parts)
        and all(len(match[year + 1]) in {2, 4} for match in found)
        and (order is DateOrder.YMD) == all(len(match[1]) == 4 for match in found)
    }
    return None if not fitting and all("-" in match[0] for match in found) else fitting


def are_phones(values: Sequence[str]) -> bool:
    """Return whether most of these are written as telephone numbers."""
    given = [each for each in values if each]
    return 2 * sum(map(is_phone, given)) > len(given)


def is_phone(value: str) -> bool:
    """Return whether a cell is written as a telephone number."""
    return bool(_PHONE.fullmatch(value)) and sum(map(str.isdigit, value)) >= FEWEST_DIGITS
