"""Show a list to the person who gives it: its columns, its rows with what is wrong, and how many can be called."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, islice

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import PLACEHOLDER, FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.lists.column_detection import (
    LOOKED_AT,
    DetectedColumns,
    are_phones,
    country_among,
    detect_columns,
    is_phone,
)
from voiceflow_worker.campaigns.lists.columns import DESTINATION, NOT_READ, RESERVED, canonical_name, row_name
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.rows import Row
from voiceflow_worker.campaigns.lists.values import PartlyFilled, UnreadColumn
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Message
from voiceflow_worker.model.text.wording import folded
from voiceflow_worker.model.times import DateOrder

ROWS_A_PAGE = 100
_SHOWN, _KEPT, _LONGEST = 3, 20, 60
_MOST_COUNTED = 2_000_000
"""The largest file in bytes whose rows are all read for each preview; the check reads any."""
_TIME = re.compile(r"\d{1,2}[:.]\d\d(:00)?( ?[ap]\.?m\.?)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownColumn:
    """A column: its `name` in the file, its `first` values, and the `column_role` that it seems to have.

    That is a role of a column, or `date`, `phone`, `text`, `empty` or `refusal` (the reasons of rejected rows).
    `insert` is what a text has in it to speak the column.
    """

    name: str
    first: tuple[str, ...]
    column_role: str
    insert: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """A row as it stands: its number as its `name`, and its cells.

    `faults` is what is wrong with its cells, by the names of their columns; empty for the row as a whole.
    """

    name: str
    cells: tuple[str, ...]
    is_left_out: bool = False
    faults: Mapping[str, Message] = field(default_factory=dict[str, Message])


@dataclass(slots=True, kw_only=True)
class ListPreview:
    """What is shown of a list. It has no columns if it has several sheets, and none was chosen.

    `rows` are those to look at, those with faults first, behind the first `skipped` ones, and `has_more` if others
    follow. `headers` are the rows that may be the header, and `sheets` the sheets that have rows.

    Of a list that is not large, `unread` and `partly_filled` are the columns whose values tell people apart, and
    `counts` the people that can be called (`good`), are to be looked at (`bad`), `left_out` or there `twice`. Of so
    many, of those `lacking` the number does not say its country. All are counted as if it was `country`,
    if that is one of which most of these are numbers.
    """

    columns: tuple[ShownColumn, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    date_orders: tuple[DateOrder, ...] | None = None
    rows: tuple[ShownRow, ...] = ()
    skipped: int = 0
    has_more: bool = False
    headers: tuple[ShownRow, ...] = ()
    sheets: tuple[str, ...] = ()
    unread: Sequence[UnreadColumn] = ()
    partly_filled: Sequence[PartlyFilled] = ()
    counts: Counter[str] | None = None
    country: str | None = None


async def preview_list(
    store: Store,
    file: InputFile,
    sheet: str | None,
    header_row: int | None = None,
    *,
    encoding: str | None = None,
    skipped: int = 0,
    options: CampaignOptions | None = None,
    usual: Sequence[str] = (),
) -> ListPreview:
    """Read the first rows of a file, and show those behind so many; with `options`, with what is wrong with them.

    Numbers that say no country are tried with the `usual` ones. Raises CampaignFileError.
    """
    try:
        found = detect_columns(file, sheet=sheet, header_row=header_row, encoding=encoding)
    except CampaignFileError as error:
        if not error.sheets or sheet:
            raise
        return ListPreview(sheets=tuple(error.sheets))
    source, is_short = found.source, file.size <= _MOST_COUNTED
    others = list(found.others) if is_short else []
    shown = ListPreview(
        columns=tuple(_columns(found)),
        roles=found.roles,
        date_orders=found.date_orders,
        skipped=skipped,
        headers=tuple(_headers(found)),
        sheets=source.sheets,
    )
    read: _Read = {}, set()
    if options is not None:
        if not source.kind.is_table:
            options = replace(options, template=FlowTemplate.without_text(), source=PLACEHOLDER)
        with suppress(CampaignFileError, InvalidInputError):  # which the check of the campaign tells
            most = None if is_short else skipped + ROWS_A_PAGE
            read = _read(shown, file, options, now=store.clock.now(), most=most, usual=usual)
    every: Iterator[Row] = chain(found.rows, found.others)
    if is_short:
        every = iter(sorted((*found.rows, *others), key=lambda row: row.number not in read[0]))
    page = islice(every, skipped, skipped + ROWS_A_PAGE)
    shown.rows = tuple(_row(row, found, read) for row in page)
    shown.has_more = next(every, None) is not None
    return shown


def _columns(found: DetectedColumns) -> Iterator[ShownColumn]:
    for name, values in found.values.items():
        given, meant = list(filter(None, values)), canonical_name(name)
        column_role = "text" if given else "empty"
        if meant in {DESTINATION, *RESERVED}:
            column_role = meant
        elif found.source.columns[:1] == (NOT_READ,) and name == found.source.header[0]:
            column_role = "refusal"
        elif name in found.days or folded(name) == "name":
            column_role = "date" if name in found.days else "name"
        elif given and all(map(is_phone, given)):
            column_role = "phone"
        is_time = bool(given) and all(map(_TIME.fullmatch, given))
        spoken_as = "|date" if name in found.days else "|time" if is_time else ""
        first = tuple(value[:_LONGEST] for value in given[:_KEPT])
        insert = f"{{{{{row_name(name)}{spoken_as}}}}}"
        yield ShownColumn(name=name, first=first, column_role=column_role, insert=insert)


_Read = tuple[dict[int, ReadRow], set[int]]
"""Of the rows of a list as a campaign reads them, the bad ones by their numbers, and those that are left out."""


def _read(
    shown: ListPreview,
    file: InputFile,
    options: CampaignOptions,
    *,
    now: datetime,
    most: int | None,
    usual: Sequence[str],
) -> _Read:
    """Read the rows, or the first ones. Raises CampaignFileError and InvalidInputError."""
    bad, left_out, lacking = dict[int, ReadRow](), set[int](), dict[int, str]()
    counts = Counter[str]()
    campaign = open_campaign(file, options, now=now, checks=True)
    for each in islice(campaign, most):
        counts.update(people=1, good=each.call is not None, twice=each.duplicate_of is not None)
        if each.is_left_out:
            left_out.add(each.raw.number)
        elif each.is_bad:
            wrong = [found for found in each.findings if found.is_error]
            if wrong and all(found.told.kind == "no_country" for found in wrong):
                lacking[each.raw.number] = str(campaign.source.cells_of(each.raw).get(wrong[0].column or "") or "")
            else:
                bad[each.raw.number] = each
    country = country_among([*lacking.values()][:LOOKED_AT], usual)
    if country is not None:
        bad, left_out = _read(shown, file, replace(options, country=country), now=now, most=most, usual=())
        counts = Counter(shown.counts or {})
    elif most is None:
        counts.update(bad=len(bad), left_out=len(left_out))
        if options.leave_out or options.only:  # whose values are to be counted too
            campaign = open_campaign(file, replace(options, leave_out=None, only=None), now=now, checks=True)
            deque(campaign, maxlen=0)
        shown.unread = [each for each in campaign.values.unread() if not are_phones([*each.values])]
        shown.partly_filled = campaign.values.partly_filled()
    if most is None:
        shown.counts = counts
        counts["lacking"] = len(lacking)
    shown.country = country
    return bad, left_out


def _row(row: Row, found: DetectedColumns, read: _Read) -> ShownRow:
    bad, left_out = read
    cells, faults = found.source.cells_of(row), dict[str, Message]()
    for fault in bad[row.number].findings if row.number in bad else ():
        if fault.is_error:
            faults.setdefault(column if (column := fault.column or "") in found.values else "", fault.told)
    texts = tuple(("" if (cell := cells.get(name)) is None else str(cell).strip())[:_LONGEST] for name in found.values)
    return ShownRow(name=str(row.number), cells=texts, is_left_out=row.number in left_out, faults=faults)


def _headers(found: DetectedColumns) -> Iterator[ShownRow]:
    """Yield the rows that may be the header of a table: those above it, itself, and the first below it."""
    source = found.source
    if source.kind.is_table:
        own, below = (source.header_row or 1, source.header), [(row.number, row.cells) for row in found.rows[:_SHOWN]]
        for number, cells in (*source.above, own, *below):
            yield ShownRow(name=str(number), cells=tuple(text[:_LONGEST] for cell in cells if (text := cell.strip())))
