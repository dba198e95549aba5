"""What a list holds beside calls: values of unread and filtered columns, forbidding columns, and mixed dates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voiceflow_worker.campaigns.lists.columns import IGNORE, row_name
from voiceflow_worker.campaigns.lists.filters import Filter, are_alike, cell_of
from voiceflow_worker.campaigns.lists.forbidden import forbids_calls, is_consent
from voiceflow_worker.campaigns.lists.rows import Row
from voiceflow_worker.finding import columns_text
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.times import DateOrder, begins_with_ordered_date, may_be_swapped

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.columns import CampaignColumns

MOST_VALUES = 6
"""The largest number of different filled values of a column that is shown."""
_LONGEST = 40
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class UnreadColumn:
    """An unread or filtered column: its values, `""` for empty cells, with their rows; common values first."""

    column: str
    values: Mapping[str, int]

    def in_words(self) -> str:
        """Return the values with their counts: `Yes 380, No 20`."""
        return ", ".join(f"{value[:_LONGEST] or EMPTY} {count:,}" for value, count in self.values.items())

    @property
    def leave_out(self) -> Filter:
        """Filter that leaves out the rows with the rarest value."""
        return Filter(self.column, ([""] + [value for value in self.values if value])[-1])

    def as_json(self) -> dict[str, object]:
        """Return the column as a JSON object."""
        return {"column": self.column, "values": dict(self.values)}


@dataclass(frozen=True, slots=True)
class PartlyFilled:
    """An unread column with the number of rows in which it is filled, and in which it is empty."""

    column: str
    filled: int
    empty: int

    def as_json(self) -> dict[str, object]:
        """Return the column as a JSON object."""
        return {"column": self.column, "filled": self.filled, "empty": self.empty}


MOST_PARTLY_FILLED = 12
"""The largest number of partly filled columns that are shown."""


@dataclass(slots=True)
class _Counts:
    """The counted values of one column, at most one more of them than are shown."""

    column: str
    is_filter: bool
    is_undecided: bool
    """Whether the column says by its name whom not to call, and nothing decides it."""
    rows: int = 0
    values: Counter[str] = field(default_factory=Counter[str])
    _written: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, cell: object) -> None:
        self.rows += 1
        value = str(cell_of(cell)).strip()
        if value not in self._written:
            if value and self.is_full:
                return
            # A filter for one of two values that are alike has the rows of both.
            alike = (each for each in self.values if value and each and are_alike(each, value))
            self._written[value] = next(alike, value)
        self.values[self._written[value]] += 1

    @property
    def is_full(self) -> bool:
        return len(self.values.keys() - {""}) > MOST_VALUES

    def shown(self) -> UnreadColumn | None:
        """Return the column if it has several values, few of them, and if unread, fewer than half of its rows."""
        is_short = self.is_filter or 2 * len(self.values) < self.rows
        if self.is_full or len(self.values) < 2 or not is_short:
            return None
        return UnreadColumn(self.column, dict(self.values.most_common()))

    def partly(self) -> PartlyFilled | None:
        """Return the column if it is unread, and empty in some of its rows but not in all."""
        empty = self.values[""]
        if self.is_filter or not 0 < empty < self.rows:
            return None
        return PartlyFilled(self.column, self.rows - empty, empty)

    def undecided(self) -> str:
        """Return why it must be decided whom the column forbids to call, with the number of rows of each value."""
        several = f"{EMPTY} {self.values['']:,}, more than {MOST_VALUES} values"
        counts = several if self.is_full else UnreadColumn(self.column, dict(self.values.most_common())).in_words()
        value = "" if is_consent(self.column) or self.partly() is None else f": {Filter(self.column, '', is_not=True)}"
        return (
            f"says by its name who may be called, and its cells are not decided ({counts}). Leave rows out "
            f"(`leave_out{value}`), or if everybody is to be called, ignore it "
            f"(`columns: {columns_text([f'{IGNORE}={self.column}'])}`)."
        )


class ColumnValues:
    """Count the values of the unread and the filtered columns of a list with this `header`."""

    def __init__(self, columns: CampaignColumns, header: Sequence[str]) -> None:
        self._columns, self._header = columns, header
        self._places: dict[tuple[str, ...], Sequence[tuple[int, _Counts]]] = {}
        self._counts: dict[str, _Counts] = {}

    def add(self, raw: Row) -> None:
        """Count the values of a row that is not left out."""
        if (places := self._places.get(raw.names)) is None:
            named = enumerate(raw.names or self._header)
            places = self._places[raw.names] = [
                (place, counts) for place, name in named if (counts := self._of(name)) is not None
            ]
        for place, counts in places:
            cell = raw.cells[place] if place < len(raw.cells) else ""
            if not is_object(cell):  # its parts are columns too
                counts.add(cell)

    def _of(self, name: str) -> _Counts | None:
        columns = self._columns
        is_undecided = bool(name.strip()) and forbids_calls(name) and not columns.is_decided(name)
        if not (is_undecided or columns.is_unread(name) or columns.is_filter(name)):
            return None
        return self._counts.setdefault(row_name(name), _Counts(name.strip(), columns.is_filter(name), is_undecided))

    def unread(self) -> tuple[UnreadColumn, ...]:
        """Return the unread and the filtered columns with few values."""
        return tuple(found for each in self._counts.values() if (found := each.shown()) is not None)

    def partly_filled(self) -> tuple[PartlyFilled, ...]:
        """Return the other unread columns that are partly empty, at most twelve."""
        shown = {each.column for each in self.unread()}
        found = (each.partly() for each in self._counts.values() if each.column not in shown)
        return tuple(each for each in found if each is not None)[:MOST_PARTLY_FILLED]

    def undecided(self) -> Iterator[tuple[str, str]]:
        """Yield each column that by its name says whom not to call and that nothing decides, and the error about it."""
        for each in self._counts.values():
            if each.is_undecided and each.rows:
                yield each.column, each.undecided()


class MixedDates:
    """Find columns with dates of which a spreadsheet has read some, and left others as texts: an error of the list."""

    def __init__(self, names: Iterable[str], header: Sequence[str], order: DateOrder | None) -> None:
        self._names: Collection[str] = {*names} if order is not DateOrder.YMD else ()
        self._header = header
        self._seen: dict[str, dict[bool, tuple[Row, str]]] = {}
        self._places: dict[tuple[str, ...], Sequence[tuple[int, str]]] = {}

    def add(self, raw: Row) -> None:
        """Look at the dates of a row, good or bad."""
        if (places := self._places.get(raw.names)) is None:
            written = enumerate(map(row_name, raw.names or self._header))
            places = self._places[raw.names] = [(place, name) for place, name in written if name in self._names]
        for place, name in places:
            value = raw.cells[place]
            if isinstance(value, str) and ((is_text := begins_with_ordered_date(value)) or may_be_swapped(value)):
                self._seen.setdefault(name, {}).setdefault(is_text, (raw, value))

    def errors(self) -> Iterator[tuple[int, str, str]]:
        """Yield the row, the column and the error of each such column."""
        for name, seen in self._seen.items():
            if len(seen) == 2:
                (row, date), (other, text) = seen[False], seen[True]
                meant = f"{date[:5]}{date[8:10]}-{date[5:7]}"
                message = (
                    f"has {date!r} in row {row.number} and {text!r} in row {other.number}: a program has perhaps taken "
                    f"days for months where it could, and {date[:10]} is {meant}. Export it again with the column as "
                    "text (Excel: Data, From Text/CSV), or write all its dates alike."
                )
                yield max(row.number, other.number), name, message
