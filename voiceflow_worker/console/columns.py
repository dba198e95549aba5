"""The columns of a file of people: what each is taken for, with the first rows, before a campaign is made of it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, islice
from typing import Any

from voiceflow_worker.campaigns.calls.corrections import Corrections, forbids_calls, row_digest
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.column_values import PartlyFilled, UnreadColumn
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import (
    COUNTRY,
    DESTINATION,
    IGNORE,
    MEANINGS,
    NOT_READ,
    RESERVED,
    FileKind,
    RawRow,
    RowSource,
    canonical_name,
    row_name,
)  # fmt: skip
from voiceflow_worker.campaigns.shape import LOOKED_AT, are_phones, country_among, is_phone, shape_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Message, RowRange, message_of, ranges_text
from voiceflow_worker.model.text.wording import name_columns
from voiceflow_worker.model.times import DateOrder

SHOWN, KEPT = 3, 20
ROWS_A_PAGE = 100
MOST_COUNTED = 2_000_000
"""The largest file in bytes whose rows are all read for each look at it; the check reads any."""
_LONGEST = 60
_TIME = re.compile(r"\d{1,2}[:.]\d\d(:00)?( ?[ap]\.?m\.?)?", re.IGNORECASE)


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

    `faults` is what is wrong with its cells, by the names of their columns; empty for the row as a whole. `was` is what
    the list has in those that are, or may be, corrected, bound to the `digest` of the row; `offered` is what such a
    cell was corrected to in another row.
    """

    name: str
    cells: tuple[str, ...]
    digest: str = ""
    was: Mapping[str, str] = field(default_factory=dict[str, str])
    offered: Mapping[str, str] = field(default_factory=dict[str, str])
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
    words: Sequence[str] = ()
    """Words to look at of a list that was read as Windows-1252."""


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
        shape = shape_of(file, sheet=sheet, header_row=header_row, usual=usual)
    except CampaignFileError as error:
        if not error.sheets or sheet:
            raise
        return FoundColumns(sheets=error.sheets)
    source, rows, values, spoken = shape.source, shape.rows, shape.values, shape.days
    is_short = file.size <= MOST_COUNTED
    others = list(shape.others) if is_short else []
    every: Iterator[RawRow] = chain(rows, others, shape.others)
    taken = {**dict.fromkeys(name_columns(values), ROLE_WORDS["name"]), **dict.fromkeys(spoken, _DATES)}
    taken |= {name: MEANINGS[meant] for name in values if (meant := canonical_name(name)) in RESERVED}
    if source.columns[:1] == (NOT_READ,):
        taken[source.header[0]] = _REFUSAL
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
        found=shape.roles,
        date_orders=shape.date_orders,
        header_row=shape.header_row,
        rows=tuple(_found_rows(shown, source, tuple(values), read, options)),
        skipped=skipped,
        has_more=next(every, None) is not None,
        headers=tuple(_headers(source, rows)),
        sheets=source.sheets,
        words=file.words,
        unread=tuple(each for each in read.unread if not each.others and not are_phones([*each.values])),
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


def _found_rows(
    rows: Iterable[RawRow], source: RowSource, names: Sequence[str], read: _Read, options: CampaignOptions | None
) -> Iterator[FoundRow]:
    """The rows as they are shown."""
    given = () if options is None else options.corrections
    corrections = Corrections(given) if given else None
    earlier = {(row_name(each.column), each.was): each.now for each in given}
    for raw in rows:
        row, bad = raw if corrections is None else corrections.applied(raw, source), read.bad.get(raw.number)
        digest, own, cells = row_digest(source.cells_of(raw)), source.cells_of(raw), source.cells_of(row)
        faults: dict[str, Message] = {}
        for found in () if bad is None else bad.findings:
            if found.is_error:
                faults.setdefault(column if (column := found.column or "") in names else "", found.told)
        corrected = {each: was for name, was in row.was for each in names if row_name(each) == row_name(name)}
        wrong = {each: _cell(own.get(each)) for each in faults if each and not forbids_calls(each)}
        yield FoundRow(
            name=str(RowRange.of(raw.number)),
            cells=tuple(_cell(cells.get(name))[:_LONGEST] for name in names),
            is_struck=_is_struck(raw),
            is_left_out=raw.number in read.left_out,
            faults=faults,
            digest=digest,
            was={**wrong, **corrected},
            offered={each: now for each, was in wrong.items() if (now := earlier.get((row_name(each), was)))},
        )


def _cell(cell: object) -> str:
    return "" if cell is None else str(cell).strip()


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


def _insert(variable: str, values: Sequence[str], *, is_date: bool) -> str:
    """What a text has in it to speak a column: of times of day as such, and of dates."""
    given = list(filter(None, values))
    is_time = bool(given) and all(map(_TIME.fullmatch, given))
    return f"{{{{{variable}{'|date' if is_date else '|time' if is_time else ''}}}}}"


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
    if given and all(map(is_phone, given)):
        return _PHONES
    return _TEXTS if given else _EMPTY
