"""What is shown of columns: the values of those that nobody reads, with counts, and the span of days and times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from voiceflow_worker.campaigns.calls.filters import Filter, cell_of
from voiceflow_worker.ivr.meanings import is_letter, meaning_of

MOST_VALUES = 6
"""How many different values of a column are shown."""
_MOST_COUNTED = 1000
"""How many different values of a column are counted. A value that is in a tenth of the rows is among the first ones."""
_LONGEST = 40
_NEAR = timedelta(days=300)
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class UnreadColumn:
    """A column that nobody reads, or a filter alone: its values with the rows of each, common ones first; `""` is none.

    Of a column with many values, `others` is how many rows have none of these.
    """

    column: str
    values: Mapping[str, int]
    others: int = 0

    def in_words(self) -> str:
        """The values with their counts: `Yes 380, No 20`."""
        told = [f"{value[:_LONGEST] or EMPTY} {count:,}" for value, count in self.values.items()]
        return ", ".join([*told, f"{self.others:,} others"] if self.others else told)

    @property
    def leave_out(self) -> Filter:
        """What leaves out the rows with the rarest value."""
        return Filter(self.column, ([""] + [value for value in self.values if value])[-1])

    def as_json(self) -> dict[str, object]:
        """The column as a JSON object."""
        others = {"others": self.others} if self.others else {}
        return {"column": self.column, "values": dict(self.values), **others}


@dataclass(frozen=True, slots=True)
class PartlyFilled:
    """A column that nobody reads, with how many rows have something in it, and how many have nothing."""

    column: str
    filled: int
    empty: int

    @property
    def leave_out(self) -> tuple[Filter, Filter]:
        """What leaves out the rows where it is filled, and those where it is empty."""
        return Filter(self.column, "", is_not=True), Filter(self.column, "")

    def as_json(self) -> dict[str, object]:
        """The column as a JSON object."""
        return {"column": self.column, "filled": self.filled, "empty": self.empty}


MOST_PARTLY_FILLED = 12
"""How many partly filled columns are shown."""


@dataclass(slots=True)
class ValueCounts:
    """The values of a column, counted. One that a filter reads `is_filter`."""

    column: str
    is_filter: bool = False
    rows: int = 0
    values: Counter[str] = field(default_factory=Counter[str])

    def add(self, cell: object) -> None:
        """Count a cell."""
        self.rows += 1
        value = str(cell_of(cell)).strip()
        if value in self.values or not value or len(self.values) < _MOST_COUNTED:
            self.values[value] += 1

    def common(self) -> list[tuple[str, int]]:
        """The values with their counts, the commonest first: those that `leave_out` holds for the same are one."""
        kept, counts = dict[object, str](), Counter[str]()
        for value, count in sorted(self.values.most_common(), key=lambda each: is_letter(each[0])):
            meant = meaning_of(value)
            key = value.casefold() if is_letter(value) and meant not in kept else meant
            counts[kept.setdefault(key, value)] += count
        return counts.most_common()

    def shown(self, *, is_asked: bool = False) -> UnreadColumn | None:
        """The column, if its values tell rows apart; None if it has but one, or nearly each row has its own.

        Of one that a filter reads, what is still called is shown, if it is not all one value. One that `is_asked` for
        is shown whatever it has.
        """
        many = len(common := self.common())
        if is_asked and any(value for value, _ in common):
            first = dict(common[:MOST_VALUES])
            return UnreadColumn(self.column, first, self.rows - sum(first.values()))
        if many < 2:
            return None
        if len(dict(common).keys() - {""}) <= MOST_VALUES:
            is_short = 2 * many < self.rows or (many == 2 and self.rows > many) or self.is_filter
            return UnreadColumn(self.column, dict(common)) if is_short else None
        if (10 * common[0][1] < self.rows or common[0][1] < 2) and not self.is_filter:
            return None
        first = dict(common[:MOST_VALUES])
        return UnreadColumn(self.column, first, self.rows - sum(first.values())) if any(first) else None

    def partly(self) -> PartlyFilled | None:
        """The column, if some rows have nothing in it, and others something; None for others."""
        empty = self.values[""]
        return (
            None if self.is_filter or not 0 < empty < self.rows else PartlyFilled(self.column, self.rows - empty, empty)
        )


_LABELS = frozenset({"label", "type"})


def is_label_of(name: str, number: str) -> bool:
    """Whether a column says what kind of telephone a column of numbers has: `Phone 1 - Label` of `Phone 1 - Value`."""
    words, own = {*name.split("_")}, {*number.split("_")}
    rest = words - _LABELS
    return bool(words & _LABELS and rest) and rest <= own and {*filter(str.isdigit, own)} <= rest


@dataclass(slots=True)
class MomentSpan:
    """The days and times of day that a column holds, from the first to the last; `midnights` of its times are 00:00.

    So many of the days are `over` before their calls can ring, and the others `ahead`.
    """

    column: str
    first: date | None = None
    last: date | None = None
    earliest: time | None = None
    latest: time | None = None
    midnights: int = 0
    over: int = 0
    ahead: int = 0

    def add(self, day: date | None, at: time | None) -> None:
        """Add what a cell has of the two."""
        if day is not None:
            self.first, self.last = min(self.first or day, day), max(self.last or day, day)
        if at is not None:
            self.earliest = at if self.earliest is None else min(self.earliest, at)
            self.latest = at if self.latest is None else max(self.latest, at)
            self.midnights += at == time()

    def in_words(self, now: datetime) -> str:
        """The span, such as `1 Dec to 29 Jan, 01:30 to 17:45, 12 at midnight`; days far from now have their year."""

        def written(day: date) -> str:
            return f"{day.day} {day:%b}" + ("" if abs(day - now.date()) < _NEAR else f" {day.year}")

        parts: list[str] = []
        if self.first is not None and self.last is not None:
            parts.append(" to ".join(dict.fromkeys((written(self.first), written(self.last)))))
        if self.earliest is not None and self.latest is not None:
            parts.append(" to ".join(dict.fromkeys((f"{self.earliest:%H:%M}", f"{self.latest:%H:%M}"))))
        if self.midnights:
            parts.append(f"{self.midnights:,} at midnight")
        if self.over:
            parts.append(self.over_in_words())
        return ", ".join(parts)

    def over_in_words(self) -> str:
        """How many of the days are over: `1 of 3 over`, or `all 3 over`."""
        return f"{self.over:,} of {self.over + self.ahead:,} over" if self.ahead else f"all {self.over:,} over"

    def as_json(self) -> dict[str, object]:
        """The span as a JSON object: days as 2030-01-31, times as 09:30."""
        days = {"first_day": self.first and str(self.first), "last_day": self.last and str(self.last)}
        times = {
            "earliest": self.earliest and f"{self.earliest:%H:%M}",
            "latest": self.latest and f"{self.latest:%H:%M}",
        }
        return {"column": self.column, **days, **times, "midnights": self.midnights, "over": self.over}
