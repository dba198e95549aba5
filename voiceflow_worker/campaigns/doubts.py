"""What is told once of all rows that are alike, by one list of doubts and one counter; and the values of columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Protocol

from voiceflow_worker.campaigns.calls.filters import Filter, cell_of
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.column_values import (
    MOST_PARTLY_FILLED,
    MomentSpan,
    PartlyFilled,
    UnreadColumn,
    ValueCounts,
    is_label_of,
)
from voiceflow_worker.campaigns.columns import CampaignColumns
from voiceflow_worker.campaigns.files.damage import (
    as_programs_write,
    misread,
    number_behind_quote,
    shown,
    without_markup,
)
from voiceflow_worker.campaigns.files.no_call import sense_of, told_beside, told_not_to_call
from voiceflow_worker.campaigns.files.rows import (
    DESTINATION,
    IGNORE,
    MEANINGS,
    FileKind,
    RawRow,
    RowSource,
    row_name,
)
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.finding import Finding, Remedy, Severity, columns_text, names_in, tell
from voiceflow_worker.ivr.meanings import meaning_of, stands_for_nothing, written
from voiceflow_worker.ivr.speech_filters import is_of_epoch, two_readings
from voiceflow_worker.model.flows.values import Decimals
from voiceflow_worker.model.numbers.phone import country_of, telephone_of
from voiceflow_worker.model.text.wording import count_of, folded, name_columns
from voiceflow_worker.model.times import (
    DateOrder,
    PersonZone,
    UnknownZoneError,
    begins_with_ordered_date,
    may_be_swapped,
    usual_clock,
    usual_moment,
)
from voiceflow_worker.model.zones import read_zone

if TYPE_CHECKING:
    from voiceflow_worker.ivr.check import MenuTexts

_MOMENT = re.compile(
    r"(?:(\d{4})-(\d{2})-(\d{2}))?(?:(?<=\d)[Tt ](?=\d))?(?:(\d{1,2}):(\d{2})(?::\d{2}(?:\.\d+)?)?)?", re.ASCII
)
_ADDRESS = re.compile(r"\w@\w|://")
_BELOW_0 = re.compile(r"[-\u2212][$€£¥₹]?\d[\d.,]*(?: ?(?:%|[€$£¥₹]|°[A-Za-z]?|[^\W\d_]+))?")
_SHORT = re.compile(r"\d{1,5}", re.ASCII)
_PLAIN_WORDS = re.compile(r"[A-Za-z][A-Za-z0-9 ]*")
_MANY_IN_A_ROW = 10
"""How many numbers that count up by one nobody has in a list by chance."""
_MOST_EXAMPLES, _MOST_ROWS, _MOST_CHOICES = 3, 60, 6
_FEWEST = 10
"""From how many rows on a shape that a few cells have is odd."""
_NUMBER_FILTERS = ("digits", "money", "number", "spell")
"""The filters that decide what a number is."""
TIMES = ("not_before", "valid_until")
"""The reserved columns of times."""
Add = Callable[..., None]
"""What counts the rows of which the same is told: see `Doubts.add`."""


class Doubt(Protocol):
    """One subject: what is told of rows with calls, and when all have been read, of all of them."""

    def row(self, raw: RawRow, call: CheckedCall, add: Add) -> None:
        """Look at a row."""
        ...

    def close(self, add: Add) -> None:
        """Tell what only all rows together say."""
        ...


@dataclass(slots=True)
class _AlikeRows:
    """Rows of which the same is told: the finding about the first, and how many they are."""

    first: Finding
    kind: str
    values: Mapping[str, object]
    count: int = 0

    def finding(self) -> Finding:
        """The finding about these rows."""
        message, others = tell(self.kind, rows=count_of(self.count, "row"), **self.values), self.count - 1
        roles = {Remedy.END_BY_COLUMN: "valid_until", Remedy.IGNORE_COLUMN: IGNORE}
        named = {each: columns_text([f"{role}={self.first.column}"]) for each, role in roles.items()}
        message = message.giving({each: named[each] for each in message.needs if each in named})
        if others and "rows" not in names_in(self.kind):
            message = message.plus(f". {count_of(others, 'more row')} like it.")
        return replace(self.first, message=message)


class Doubts:
    """What is said once of all rows of a `source` that are alike: of one kind, in one column.

    `texts` are those of the campaign, `times` the columns from which times are counted, `zone` is that in which times
    are read, `unknown` the numbers of the
    next rows that no plan has, and `warning` makes the warning about a row and a column.
    """

    def __init__(
        self,
        source: RowSource,
        columns: CampaignColumns,
        texts: Sequence[FlowTemplate | MenuTexts],
        *,
        times: Collection[str],
        order: DateOrder | None,
        zone: str | None,
        now: datetime,
        unknown: set[str],
        warning: Callable[[RawRow | None, str | None], Finding],
    ) -> None:
        self._source, self._columns, self._warning = source, columns, warning
        self._alike: dict[tuple[object, ...], _AlikeRows] = {}
        self._once: Counter[tuple[str, str | None]] = Counter()
        moments = source.moments - {*TIMES}
        named = (each.variables if isinstance(each, FlowTemplate) else each.names for each in texts)
        spoken = {*times, *map(row_name, chain(*(each.spoken for each in texts)))}
        bare = set(map(row_name, chain(*(each.bare for each in texts))))
        decided = set(map(row_name, chain(*(each.read_by(*_NUMBER_FILTERS) for each in texts))))
        days = {*times, *map(row_name, chain(*(each.read_by("date") for each in texts)))}
        self._moments = _Moments(moments, source.clocks, source.clocks - days, zone=zone, now=now)
        self._values = _Values(columns, source)
        self._numbers = _Numbers(columns, source, unknown)
        self._mixed = _Mixed({*TIMES, *times, *map(row_name, chain(*named))}, source, order)
        names = None if not source.kind.is_table else {*map(row_name, source.header)}
        of_all: list[tuple[Doubt, bool]] = [
            (_Spoken(spoken, bare, decided, source.header), True),
            (_NotToCall(columns, source), True),
            (self._moments, bool(moments)),
            (self._values, names is None or any(columns.is_unread(n) or columns.is_filter(n) for n in source.header)),
        ]
        self._doubts: Sequence[Doubt] = [doubt for doubt, may_tell in of_all if may_tell]

    def row(self, raw: RawRow, call: CheckedCall, *, has_numbers_only: bool) -> None:
        """Look at a row with a call."""
        for doubt in self._doubts:
            doubt.row(raw, call, self.add)
        if not has_numbers_only:
            self._numbers.row(raw, call, self.add)

    def add(
        self, raw: RawRow | None, column: str | None, kind: str, *apart: object, is_error: bool = False, **values: Any
    ) -> None:
        """Add a row about which something is told, with the values of the first one. Those `apart` are told apart."""
        key = (kind, row_name(column or ""), *apart)
        if (alike := self._alike.get(key)) is None:
            first = self._warning(raw, column)
            first = replace(first, severity=Severity.ERROR) if is_error else first
            alike = self._alike[key] = _AlikeRows(first, kind, values)
        alike.count += 1

    def is_first(self, about: str, column: str | None) -> bool:
        """Whether no earlier row has this, which its own finding tells; that of the first row is for all of them."""
        self._once[about, column] += 1
        return self._once[about, column] == 1

    def bad(self, read: ReadRow, names: Mapping[str, str]) -> None:
        """Look at a bad row: a wrong reserved column may have its name by chance; `names` are as written."""
        self._values.count(read.raw)
        for column in dict.fromkeys(found.column or "" for found in read.findings if found.is_error):
            if column in MEANINGS and names.get(column) == column:
                self.add(read.raw, column, "reserved_name_wrong", meaning=MEANINGS[column])

    def dates(self, raw: RawRow) -> None:
        """Look at a row, good or bad, that may have dates."""
        self._mixed.row(raw)

    def cells(self, raw: RawRow, texts: Iterable[tuple[str, str]]) -> None:
        """Look at a row, good or bad, for texts that are wrongly decoded, HTML, or a number behind a stray quote.

        The texts come with the names of their columns.
        """
        if '""' in raw.text and self._source.kind.is_table:
            for name, cell in zip(self._source.columns, raw.cells, strict=False):
                is_number = row_name(name) in self._columns.numbers
                if '"' in cell and not is_number and (number := number_behind_quote(cell)):
                    why = "right behind a quote, as if a line break were missing, so that nobody calls it"
                    self.add(raw, name or None, "odd", why, values=repr(number), why=why)
                    break
        damaged = False
        for name, text in texts:
            if not damaged and (problem := misread(text)) is not None:
                damaged = True
                self.add(raw, name or None, problem.kind or "", **dict[str, Any](problem.values))
            if name and ("&" in text or "<" in text) and without_markup(text) != text:
                self.add(raw, name, "markup", row=raw.number, value=text.strip()[:60], spoken=shown(text)[:60])

    def findings(self) -> list[Finding]:
        """The findings about all rows. Call this when all have been read."""
        for close in (*(each.close for each in self._doubts), self._numbers.close, self._mixed.close):
            close(self.add)
        return [each.finding() for each in self._alike.values()]

    def unread(self) -> tuple[UnreadColumn, ...]:
        """The columns that nobody reads and that tell rows apart by a few values, labels, and what filters read."""
        numbers = self._columns.numbers
        labels = {key for key in self._values.counts if any(is_label_of(key, each) for each in numbers)}
        counts = ((each, key in labels) for key, each in self._values.counts.items())
        return tuple(found for each, is_label in counts if (found := each.shown(is_asked=is_label)) is not None)

    def partly_filled(self) -> tuple[PartlyFilled, ...]:
        """The columns that nobody reads and that are partly empty: at most twelve, those without few values first."""
        shown = {each.column for each in self.unread()}
        found = [each for counts in self._values.counts.values() if (each := counts.partly()) is not None]
        return tuple(sorted(found, key=lambda each: each.column in shown)[:MOST_PARTLY_FILLED])

    def moments(self) -> tuple[MomentSpan, ...]:
        """The days and times of the columns that texts read so."""
        spans = self._moments.spans.items()
        names = self._columns.names
        return tuple(
            replace(span, column=names.get(name, name)) for name, span in spans if span.in_words(self._moments.now)
        )


_APART = frozenset(".,")
"""The signs of texts that voices may hear differently: numbers such as 1.250."""


class _Spoken:
    """Words that are spoken as they stand: in another script, for nothing, or odd among the others of their column."""

    def __init__(
        self, spoken: Collection[str], bare: Collection[str], decided: Collection[str], header: Sequence[str]
    ) -> None:
        self._header, self._bare, self._decided = header, bare, decided
        self._has_words = dict.fromkeys(spoken, False)
        """The columns that are spoken; True for those that hold texts, and not only yes, no and numbers."""
        self._false: list[tuple[RawRow, str, str]] = []
        self._shapes: Counter[tuple[str, str]] = Counter()
        self._few: dict[tuple[str, str], list[tuple[RawRow, str]]] = {}

    def row(self, raw: RawRow, call: CheckedCall, add: Add) -> None:
        for name, cell in (call.data or {}).items():
            if name not in self._has_words or cell is None or cell is True:
                continue
            if not (value := cell if isinstance(cell, str) else "False" if cell is False else written(cell)):
                continue
            shape, why, is_nothing = _judged(value)
            if why is not None and not self._is_nested(raw, name, value):
                add(raw, name, "odd", why, values=repr(value[:40]), why=why)
                shape = _WORDS
            elif (
                isinstance(cell, str)
                and not _APART.isdisjoint(value)
                and (told := self._differently_heard(name, cell)) is not None
            ):
                add(raw, name, "odd", told[0], values=repr(value[:60]), why=told[1])
            self._shapes[name, shape] += 1
            if shape != _WORDS and len(few := self._few.setdefault((name, shape), [])) < _MOST_ROWS:
                few.append((raw, value))
            if not is_nothing:
                if not self._has_words[name] and isinstance(meaning_of(value), str):
                    self._has_words[name] = True
            elif name in self._bare:
                self._nothing(raw, name, value, add)

    def _differently_heard(self, name: str, text: str) -> tuple[object, str] | None:
        """Why voices may differ about a text, behind what tells such texts apart: a number such as 1.250.

        A typed number has one reading, and a filter decides that of a text.
        """
        if name in self._decided or isinstance(text, Decimals) or (readings := two_readings(text)) is None:
            return None
        filters = " or ".join(f"{{{{ {name}|number('{sign}') }}}}" for sign in ".,")
        return two_readings, f"which is {readings}, and voices differ; {filters} names its decimal sign"

    def _nothing(self, raw: RawRow, name: str, value: str, add: Add) -> None:
        if meaning_of(value):
            add(raw, name, "spoken_nothing", what="a word for nothing", name=name, value=value)
        elif len(self._false) < _MOST_ROWS:
            self._false.append((raw, name, value))

    def _is_nested(self, raw: RawRow, name: str, value: str) -> bool:
        """Whether a value is the JSON of an array or an object, of which texts speak parts."""
        named = zip(map(row_name, raw.names or self._header), raw.cells, strict=False)
        cell = next((cell for key, cell in named if key == name), "") if value[0] in "[{" else ""
        return not isinstance(cell, str)

    def close(self, add: Add) -> None:
        """A False is a word for nothing among texts alone, and a shape is odd that few have where most are words."""
        for raw, name, value in self._false:
            if self._has_words[name]:
                add(raw, name, "spoken_nothing", what="a False among texts", name=name, value=value)
        for (name, shape), few in self._few.items():
            total = sum(count for (column, _), count in self._shapes.items() if column == name)
            count, words = self._shapes[name, shape], self._shapes[name, _WORDS]
            if total >= _FEWEST and 10 * count <= total and 5 * words >= 4 * total:
                values = ", ".join(dict.fromkeys(repr(value[:40]) for _, value in few[:_MOST_EXAMPLES]))
                for raw, _ in few:
                    add(raw, name, "odd", shape, values=values, why=f"{shape} among words, and it is spoken")


_WORDS, _NUMBER, _AN_ADDRESS = "words", "a number or a code", "an address"


# Columns such as times and places have few values.
@lru_cache(maxsize=1024)
def _judged(value: str) -> tuple[str, str | None, bool]:
    """The shape of a value that is spoken, why it is odd, and whether it stands for nothing."""
    is_plain = _PLAIN_WORDS.fullmatch(value) is not None  # of most names, which are looked at once
    why = None if is_plain or value.isalnum() else _why_odd(value)
    return _WORDS if is_plain else _shape_of(value), why, stands_for_nothing(value)


def _why_odd(value: str) -> str | None:
    below = _BELOW_0.fullmatch(value) is not None
    return "below 0, and half of the voices leave a minus out" if below else as_programs_write(value)


def _shape_of(value: str) -> str:
    if _ADDRESS.search(value):
        return _AN_ADDRESS
    if re.fullmatch(r"\.[a-z]", value) or not any(map(str.isalpha, value)):
        return _NUMBER if any(map(str.isalnum, value)) else _WORDS
    return _WORDS


class _NotToCall:
    """Rows that would be called although a column or a remark says not to."""

    def __init__(self, columns: CampaignColumns, source: RowSource) -> None:
        self._columns, self._source = columns, source
        self._told: dict[str, Counter[str]] = {}
        self._all: dict[str, ValueCounts] = {}
        self._places: dict[tuple[str, ...], Sequence[tuple[int, str, bool]]] = {}

    def row(self, raw: RawRow, call: CheckedCall, add: Add) -> None:  # noqa: ARG002
        for place, name, is_name in self._telling(raw.names):
            cell = raw.cells[place]
            if is_name or sense_of(name) == "remark":
                if told_beside(cell) if is_name else told_not_to_call(name, cell):
                    add(raw, name, "remark", row=raw.number, value=str(cell)[:40])
                continue
            self._all.setdefault(name, ValueCounts(name)).add(cell)
            if told_not_to_call(name, cell) is not None:
                self._told.setdefault(name, Counter())[str(cell_of(cell)).strip()] += 1

    def _telling(self, names: tuple[str, ...]) -> Sequence[tuple[int, str, bool]]:
        """The columns that may say whom not to call, each with its place, and whether it has the names of people."""
        if (found := self._places.get(names)) is None:
            written = names or self._source.header
            people = name_columns(written)
            told = ((place, name, name in people) for place, name in enumerate(written))
            asked = (each for each in told if each[2] or sense_of(each[1]) is not None)
            found = self._places[names] = [each for each in asked if not self._columns.is_decided(each[1])]
        return found

    def close(self, add: Add) -> None:
        for name, values in self._told.items():
            every = self._all[name]
            common = every.common()[:_MOST_CHOICES]
            counts = ", ".join(f"{value[:40] or 'empty'} {count:,}" for value, count in common)
            meant = [value for value in values if folded(name).startswith(folded(value))] or [*values]
            ignore = columns_text([f"ignore={name.strip()}"])
            given: dict[Remedy, str | Sequence[Filter]] = {Remedy.IGNORE_COLUMN: ignore}
            filled = every.rows - every.values[""]
            if sum(values.values()) == filled < every.rows and len([value for value, _ in every.common() if value]) > 1:
                given[Remedy.LEAVE_OUT] = (Filter(name.strip(), "", is_not=True),)  # such as by an opt-out date
            elif len(meant) <= _MOST_CHOICES and sum(values[each] for each in meant) < every.rows:
                given[Remedy.LEAVE_OUT] = tuple(Filter(name.strip(), value) for value in meant)
            add(None, name, "undecided", is_error=True, counts=counts, given=given)


class _Moments:
    """The days and times that texts speak: their span, and those that are over, or of another calendar.

    Of the columns `clocks`, the time of day is read, and of those of `clocks_alone`, nothing else. A time may be
    that of the `zone`, if there is one, or of the person.
    """

    def __init__(
        self,
        moments: Collection[str],
        clocks: Collection[str],
        clocks_alone: Collection[str],
        *,
        zone: str | None,
        now: datetime,
    ) -> None:
        self.now = now
        self._zones = () if zone is None else (read_zone(zone),)
        self._clocks, self._clocks_alone = clocks, clocks_alone
        self.spans = {name: MomentSpan(name) for name in moments}
        self._over: dict[str, list[tuple[RawRow, str]]] = {}
        self._timed = set[str]()

    def row(self, raw: RawRow, call: CheckedCall, add: Add) -> None:  # noqa: ARG002 - `close` tells it
        data: Mapping[str, object] = call.data or {}
        for name, span in self.spans.items():
            value = data.get(name)
            if value is None or isinstance(value, bool):
                continue
            written = str(value).strip()
            day, at = _moment_in(usual_clock(written) if name in self._clocks else usual_moment(written))
            if day is not None and name in self._clocks_alone and is_of_epoch(day):
                day = None  # with which a program stores a time of day
            span.add(day, at if name in self._clocks else None)
            if day is None:
                continue
            if not self._is_over(call, day, at):
                span.ahead += 1
                continue
            span.over += 1
            if at is not None and at != time():
                self._timed.add(name)
            if len(over := self._over.setdefault(name, [])) < _MOST_ROWS:
                over.append((raw, str(value)))

    def close(self, add: Add) -> None:
        """What is over is told, however many. A column of days alone may hold what has been: there, its span tells."""
        for name, rows in self._over.items():
            span = self.spans[name]
            if span.ahead or name in self._timed:
                for raw, value in chain(rows, repeat(rows[-1], span.over - len(rows))):
                    add(raw, name, "over", row=raw.number, value=value)

    def _is_over(self, call: CheckedCall, day: date, at: time | None) -> bool:
        """Whether a moment is over before the call can ring."""
        if abs(day - self.now.date()) > timedelta(days=8):
            return day < self.now.date()
        starts = max(call.not_before or self.now, self.now)
        try:
            local = PersonZone(call.time_zone, call.numbers).zone()
        except UnknownZoneError:
            return datetime.combine(day, at or time.max, UTC) + timedelta(hours=12) < starts
        if call.window is not None:
            starts = call.window.opens(starts, local) or starts
        return all(datetime.combine(day, at or time.max, each) < starts for each in (local, *self._zones))


def _moment_in(text: str) -> tuple[date | None, time | None]:
    """The day and the time of day that a text such as 2030-01-31 09:00 has, as far as it has them alone."""
    if (match := _MOMENT.fullmatch(text)) is None:
        return None, None
    try:
        day = date(int(match[1]), int(match[2]), int(match[3])) if match[1] else None
        return day, time(int(match[4]), int(match[5])) if match[4] else None
    except ValueError:
        return None, None


class _Mixed:
    """A column of dates of which a spreadsheet has read some, and not the others: an error."""

    def __init__(self, names: Collection[str], source: RowSource, order: DateOrder | None) -> None:
        self._names = names if order is not DateOrder.YMD else ()
        self._source = source
        self._seen: dict[str, dict[bool, tuple[RawRow, str]]] = {}
        self._places: dict[tuple[str, ...], Sequence[tuple[int, str]]] = {}

    def row(self, raw: RawRow) -> None:
        if (places := self._places.get(raw.names)) is None:
            written = enumerate(map(row_name, raw.names or self._source.header))
            places = self._places[raw.names] = [(place, name) for place, name in written if name in self._names]
        for place, name in places:
            value = raw.cells[place]
            if isinstance(value, str) and ((is_text := begins_with_ordered_date(value)) or may_be_swapped(value)):
                self._seen.setdefault(name, {}).setdefault(is_text, (raw, value))

    def close(self, add: Add) -> None:
        for name, seen in self._seen.items():
            if len(seen) == 2:
                (row, date_), (other, text) = seen[False], seen[True]
                meant = f"{date_[:5]}{date_[8:10]}-{date_[5:7]}"
                values = {"date": date_, "row": row.number, "text": text, "other": other.number, "day": date_[:10]}
                add(max(row, other), name, "mixed_dates", is_error=True, meant=meant, **values)


class _Numbers:
    """Calls to the own number, numbers that count up by one, and one that the end of a file may have cut."""

    def __init__(self, columns: CampaignColumns, source: RowSource, unknown: set[str]) -> None:
        self._columns, self._unknown = columns, unknown
        self._is_last = source.kind is FileKind.CSV and source.columns[-1:] == (DESTINATION,)
        """Whether the number ends its line."""
        self._shortest = 0
        self._last: tuple[int, int, int] = (0, 0, 0)
        """Of the numbers that count up by one to the last row's: that one, the row of the first, and their count."""

    def row(self, raw: RawRow, call: CheckedCall, add: Add) -> None:
        if telephone_of(call.source) in map(telephone_of, call.numbers):
            add(raw, self._columns.number_column, "own_number", str(call.source), number=call.source)
        for one in self._unknown.intersection(call.numbers) if self._unknown else ():
            self._unknown.remove(one)
            why = "in a range that the numbering plan of its country does not have: new, or a slip"
            add(raw, self._columns.number_column, "odd", why, country_of(one), values=repr(one), why=why)
        if self._is_last:
            length = len(call.destination)
            if length < self._shortest and not raw.text.endswith("\n"):
                why = "at the end of a file without a last line break, and shorter than all others: the file may be cut"
                add(raw, self._columns.number_column, "odd", why, values=repr(call.destination), why=why)
            self._shortest = min(self._shortest or length, length)
        number, (last, first, count) = int(call.destination.removeprefix("+")), self._last
        self._last = (number, first, count + 1) if number == last + 1 else (number, raw.number, 1)
        if self._last[2] == _MANY_IN_A_ROW:
            add(raw, self._columns.number_column, "counting", count=count + 1, first=first)

    def close(self, add: Add) -> None:
        """Nothing is told of all rows together."""


class _Values:
    """The values of the columns that nobody reads."""

    def __init__(self, columns: CampaignColumns, source: RowSource) -> None:
        self._columns, self._header = columns, source.header
        self._places: dict[tuple[str, ...], Sequence[tuple[int, ValueCounts]]] = {}
        self.counts: dict[str, ValueCounts] = {}

    def row(self, raw: RawRow, call: CheckedCall, add: Add) -> None:  # noqa: ARG002
        self.count(raw)

    def count(self, raw: RawRow) -> None:
        """Count the values of a row, good or bad."""
        if (places := self._places.get(raw.names)) is None:
            names = enumerate(raw.names or self._header)
            places = self._places[raw.names] = [
                (
                    place,
                    self.counts.setdefault(row_name(name), ValueCounts(name.strip(), self._columns.is_filter(name))),
                )
                for place, name in names
                if self._columns.is_unread(name) or self._columns.is_filter(name)
            ]
        for place, counts in places:
            counts.add(raw.cells[place])

    def close(self, add: Add) -> None:
        """They are shown. Short digits in a column that is named after one of numbers are extensions."""
        numbers = self._columns.numbers - {DESTINATION}
        for key, counts in self.counts.items():
            short = [*filter(_SHORT.fullmatch, counts.values)]
            if short and {*short} == counts.values.keys() - {""} and any(number in key for number in numbers):
                values = ", ".join(map(repr, short[:_MOST_EXAMPLES]))
                why = "short digits beside a number, and nobody dials an extension behind it"
                for _ in range(sum(counts.values[each] for each in short)):
                    add(None, counts.column, "odd", why, values=values, why=why)
