"""The columns of a file of people: what each is taken for, with the first rows, before a campaign is made of it."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, islice
from typing import Any

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.column_values import PartlyFilled, UnreadColumn
from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import (
    COUNTRY,
    DESTINATION,
    IGNORE,
    MEANINGS,
    NOT_READ,
    RESERVED,
    ColumnReader,
    ColumnRoles,
    FileKind,
    RawRow,
    RowSource,
    canonical_name,
    is_number_column,
    near_destination,
    row_name,
)
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import CampaignFileError, InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Message, RowRange, message_of, ranges_text
from voiceflow_worker.model.numbers.phone import FEWEST_DIGITS
from voiceflow_worker.model.numbers.reading import read_country, read_number
from voiceflow_worker.model.text.wording import name_columns
from voiceflow_worker.model.times import DateOrder

LOOKED_AT = 200
"""The rows that are looked at."""
SHOWN, KEPT = 3, 20
ROWS_A_PAGE = 100
MOST_COUNTED = 2_000_000
"""The largest file in bytes whose rows are all read for each look at it; the check reads any."""
_LOWEST_HEADER = 10
_LONGEST = 60
_PHONE = re.compile(r"[+0-9(][0-9 ()./-]*")
_DATE = re.compile(r"(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})\b")
_TIME = re.compile(r"\d{1,2}[:.]\d\d(:00)?( ?[ap]\.?m\.?)?", re.IGNORECASE)
_ISO_DATE = re.compile(r"\d{4}-(0?[1-9]|1[0-2])-(0?[1-9]|[12]\d|3[01])\b")
_COUNTRIES = ("country", "country_code", "country_name", "land", "negara", "pais", "pays")
_PLACES = {DateOrder.DMY: (2, 1, 0), DateOrder.MDY: (2, 0, 1), DateOrder.YMD: (0, 1, 2)}
"""For each order, the places of year, month and day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundColumn:
    """A column: its `name` in the file, its `variable` in texts, its `first` values, and what it is taken for."""

    name: str
    variable: str
    first: tuple[str, ...]
    taken_for: str
    insert: str
    """What a text has in it to speak the column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """A row as it stands: its `name` among the rows that are left out, its cells, and whether it is struck through.

    `faults` is what is wrong with its cells, by the names of their columns; empty for the row as a whole.
    """

    name: str
    cells: tuple[str, ...]
    is_struck: bool = False
    is_left_out: bool = False
    faults: Mapping[str, Message] = field(default_factory=dict[str, Message])


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleCounts:
    """The people of a list: how many there are, can be called, are to be looked at, are left out, or are there twice.

    Of so many, `lacking`, in the `lacking_rows`, the number does not say its country. All are counted as if it was
    `country`, if that is one of which most of these are numbers.
    """

    people: int
    good: int
    bad: int
    left_out: int
    twice: int
    lacking: int = 0
    lacking_rows: str = ""
    country: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundColumns:
    """The columns of a file, and what they are taken for. It has none if it has several sheets, and none was chosen.

    `struck` are the rows of a workbook, if it is not large, that are struck through.
    `unread` and `partly_filled` are those that nobody reads and whose few values tell people apart, of all rows of a
    file that is not large; of such a one there are `counts` too. `rows` are those to look at, those with faults first,
    behind the first `skipped` ones, and `has_more` if others follow. `headers` are the rows that may be the header, and
    `sheets` the sheets that have rows.
    `found` is the column of the numbers to call, and those of their countries and calling codes, by their roles.
    `header_row` is the row of the header, if titles stand above it.
    `date_orders` are the orders in which all dates of the first rows can be read; None if there are no such dates.
    """

    columns: tuple[FoundColumn, ...] = ()
    found: Mapping[str, str] = field(default_factory=dict[str, str])
    date_orders: tuple[DateOrder, ...] | None = None
    header_row: int | None = None
    rows: tuple[FoundRow, ...] = ()
    skipped: int = 0
    has_more: bool = False
    headers: tuple[FoundRow, ...] = ()
    struck: str = ""
    unread: tuple[UnreadColumn, ...] = ()
    partly_filled: tuple[PartlyFilled, ...] = ()
    counts: PeopleCounts | None = None
    sheets: tuple[str, ...] = ()


async def look(
    store: Store,
    file: InputFile,
    sheet: str | None,
    header_row: int | None = None,
    *,
    skipped: int = 0,
    options: CampaignOptions | None = None,
    usual: Sequence[str] = (),
) -> FoundColumns:
    """Look at the first rows of a file, and show those behind so many; with `options`, with what is wrong with them.

    Numbers that say no country are tried with the `usual` ones. Raises CampaignFileError.
    """
    try:
        source, numbers = _opened(file, sheet, header_row)
    except CampaignFileError as error:
        if not error.sheets or sheet:
            raise
        return FoundColumns(sheets=error.sheets)
    left = iter(source)
    rows = list(islice(left, LOOKED_AT))
    is_short = file.size <= MOST_COUNTED
    others = list(left) if is_short else []
    every: Iterator[RawRow] = chain(rows, others, left)
    names = source.header or tuple(dict.fromkeys(name for row in rows for name in row.names))
    values = {name: _values(source, rows, place, name) for place, name in enumerate(names) if name.strip()}
    if numbers is None and not source.kind.is_table:
        numbers = next((name for name in values if row_name(name) == DESTINATION), near_destination(values))
    if numbers is not None and canonical_name(numbers) != DESTINATION and not _are_phones(values[numbers]):
        alike = (name for name, given in values.items() if is_number_column(name) and _are_phones(given))
        numbers = next(alike, numbers)
    of_roles = {
        "calling_code": next((name for name in values if row_name(name) == "calling_code"), None),
        COUNTRY: next((name for name, given in values.items() if _are_countries(name, given)), None),
        DESTINATION: numbers,
    }
    found = {role: name for role, name in of_roles.items() if name is not None}
    dates = {name: fit for name, given in values.items() if (fit := _orders(given)) is not None}
    orders = [order for order in DateOrder if all(order in each for each in dates.values())] if dates else None
    spoken = {*dates, *(name for name, given in values.items() if _are_iso_dates(given))}
    taken = {**dict.fromkeys(name_columns(values), ROLE_WORDS["name"]), **dict.fromkeys(spoken, _DATES)}
    taken |= {name: MEANINGS[meant] for name in values if (meant := canonical_name(name)) in RESERVED}
    if source.columns[:1] == (NOT_READ,):
        taken[names[0]] = _REFUSAL
    taken |= {name: ROLE_WORDS[DESTINATION] for name in values if canonical_name(name) == DESTINATION}
    columns = tuple(
        FoundColumn(
            name=name,
            variable=row_name(name),
            first=tuple(value[:_LONGEST] for value in islice(filter(None, given), KEPT)),
            taken_for=taken.get(name) or _looks_like(given),
            insert=_insert(row_name(name), given, is_date=name in spoken),
        )
        for name, given in values.items()
    )
    read = _Read()
    if options is not None:
        if not source.kind.is_table:
            options = replace(options, template=FlowTemplate.without_text(), source=PLACEHOLDER)
        with suppress(CampaignFileError, InvalidInputError):  # which the check of the campaign tells
            most = None if is_short else skipped + ROWS_A_PAGE
            read = _read(file, options, store.clock.now(), most=most, usual=usual)
    if is_short:
        every = iter(sorted((*rows, *others), key=lambda row: row.number not in read.bad))
    shown = list(islice(every, skipped, skipped + ROWS_A_PAGE))
    return FoundColumns(
        columns=columns,
        found=found,
        date_orders=None if orders is None else tuple(orders),
        header_row=source.header_row if source.header_row not in {None, 1} else None,
        rows=tuple(_found_rows(shown, source, tuple(values), read)),
        skipped=skipped,
        has_more=next(every, None) is not None,
        headers=tuple(_headers(source, rows)),
        sheets=source.sheets,
        unread=tuple(each for each in read.unread if not each.others and not _are_phones([*each.values])),
        partly_filled=read.partly_filled,
        counts=read.counts if is_short else None,
        struck=ranges_text(row.number for row in (*rows, *others) if _is_struck(row)),
    )


@dataclass(slots=True)
class _Read:
    """The rows of a list as the campaign reads them: those that are `bad`, by number, and those that are `left_out`."""

    bad: dict[int, ReadRow] = field(default_factory=dict[int, ReadRow])
    left_out: set[int] = field(default_factory=set[int])
    counts: PeopleCounts | None = None
    unread: tuple[UnreadColumn, ...] = ()
    partly_filled: tuple[PartlyFilled, ...] = ()


def _read(file: InputFile, options: CampaignOptions, now: datetime, *, most: int | None, usual: Sequence[str]) -> _Read:
    """Read the rows, or the first ones. Raises CampaignFileError and InvalidInputError."""
    lacking: list[tuple[int, str]] = []
    found, people, good, twice = _Read(), 0, 0, 0
    campaign = open_campaign(file, options, now=now, checks=True)
    for each in islice(campaign, most):
        people += 1
        good += each.call is not None
        twice += each.duplicate_of is not None
        if each.is_left_out:
            found.left_out.add(each.raw.number)
        elif (cell := _lacking(each, campaign.source)) is not None:
            lacking.append((each.raw.number, cell))
        elif each.is_bad:
            found.bad[each.raw.number] = each
    numbers: dict[str, Any] = {"lacking": len(lacking), "lacking_rows": ranges_text(number for number, _ in lacking)}
    country = country_among([cell for _, cell in lacking[:LOOKED_AT]], usual)
    if country is not None:
        found = _read(file, replace(options, country=country), now, most=most, usual=())
        found.counts = found.counts and replace(found.counts, **numbers, country=country)
        return found
    left, bad = len(found.left_out), len(found.bad)
    found.counts = PeopleCounts(people=people, good=good, bad=bad, left_out=left, twice=twice, **numbers)
    if most is None and (options.leave_out or options.only):  # whose values are to be counted too
        campaign = open_campaign(file, replace(options, leave_out=None, only=None), now=now, checks=True)
        deque(campaign, maxlen=0)
    doubts = campaign.doubts
    found.unread, found.partly_filled = (doubts.unread(), doubts.partly_filled()) if most is None else ((), ())
    return found


def _lacking(read: ReadRow, source: RowSource) -> str | None:
    """The number of a row that only lacks its country; None for another row."""
    wrong = [each for each in read.findings if each.is_error]
    if not wrong or any(each.told.kind != "no_country" for each in wrong):
        return None
    return str(source.cells_of(read.raw).get(wrong[0].column or "") or "")


def country_among(numbers: Sequence[str], usual: Sequence[str]) -> str | None:
    """The one of the usual countries of which most of these are numbers; None if it is none."""
    counts = Counter[str]()
    for country in dict.fromkeys(usual):
        for each in numbers:
            with suppress(PhoneNumberError):
                counts[country] += bool(read_number(each, country))
    found, count = next(iter(counts.most_common(1)), (None, 0))
    return found if count and 2 * count >= len(numbers) else None


def _found_rows(rows: Iterable[RawRow], source: RowSource, names: Sequence[str], read: _Read) -> Iterator[FoundRow]:
    """The rows as they are shown."""
    for row in rows:
        given, bad = source.cells_of(row), read.bad.get(row.number)
        cells = ("" if (cell := given.get(name)) is None else str(cell).strip()[:_LONGEST] for name in names)
        faults: dict[str, Message] = {}
        for found in () if bad is None else bad.findings:
            if found.is_error:
                faults.setdefault(column if (column := found.column or "") in names else "", found.told)
        yield FoundRow(
            name=str(RowRange.of(row.number)),
            cells=tuple(cells),
            is_struck=_is_struck(row),
            is_left_out=row.number in read.left_out,
            faults=faults,
        )


def _is_struck(row: RawRow) -> bool:
    return any(message_of(problem).kind == "struck" for _, problem in row.problems)


def _shown(cells: Iterable[str]) -> tuple[str, ...]:
    return tuple(cell.strip()[:_LONGEST] for cell in cells if cell.strip())


def _headers(source: RowSource, rows: Sequence[RawRow]) -> Iterator[FoundRow]:
    """The rows that may be the header of a table: those above it, itself, and the first below it."""
    if source.kind in {FileKind.CSV, FileKind.EXCEL}:
        own, below = (source.header_row or 1, source.header), [(row.number, row.cells) for row in rows[:SHOWN]]
        for number, cells in (*source.above, own, *below):
            yield FoundRow(name=str(number), cells=_shown(cells))


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
                above = (each for _, cells in found[0].above if len(cells) > 1 for each in cells)
                if any(_is_phone(each) and not _DATE.match(each) for each in above):
                    continue  # they are people
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


def _insert(variable: str, values: Sequence[str], *, is_date: bool) -> str:
    """What a text has in it to speak a column: of times of day as such, and of dates."""
    given = list(filter(None, values))
    is_time = bool(given) and all(map(_TIME.fullmatch, given))
    return f"{{{{{variable}{'|date' if is_date else '|time' if is_time else ''}}}}}"


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


FURTHER = "further numbers"
"""The role of a person's numbers, but that of the first."""
ROLE_WORDS: Mapping[str, str] = {
    DESTINATION: "the number to call",
    FURTHER: "a further number of the person",
    "name": "the name of the person",
    COUNTRY: "the country of the number",
    "calling_code": "the calling code of the number",
    "area_code": "the area code of the number",
    "person": "the person: rows of one are one call, to one number after the other",
    "region": "the state of the person",
    **MEANINGS,
    IGNORE: "nothing: it is not read",
}
"""The roles that a person may give to a column, in words. A column may have others, such as the name of a variable."""
_DATES, _PHONES, _TEXTS = "a date", "a telephone number, which is not called", "a text or a number"
_EMPTY, _REFUSAL = "empty in the first rows", "left out: the reason of an earlier refusal"
LOOKS = (_DATES, _PHONES, _TEXTS, _EMPTY, _REFUSAL)
"""What a column without a role is taken for."""


def role_in_words(role: str) -> str:
    """A role in the words of the page."""
    return ROLE_WORDS.get(role, role)


def _looks_like(values: Sequence[str]) -> str:
    given = list(filter(None, values))
    if given and all(map(_is_phone, given)):
        return _PHONES
    return _TEXTS if given else _EMPTY


def _are_phones(values: Sequence[str]) -> bool:
    """Whether most of these are telephone numbers."""
    given = [each.lstrip("'") for each in values if each]
    return 2 * sum(map(_is_phone, given)) > len(given)


def _is_phone(value: str) -> bool:
    return bool(_PHONE.fullmatch(value)) and sum(map(str.isdigit, value)) >= FEWEST_DIGITS
