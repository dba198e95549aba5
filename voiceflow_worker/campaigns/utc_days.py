"""Columns of days that a program has written as midnight in UTC: read as days where the whole column is so.

`2030-04-03T00:00:00.000Z`, or `2030-04-02T20:00:00-04:00` of a program in New York, may be the third of April, or eight
in the evening of the second. Only the column tells: each of its values, three or more, is midnight in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from tempfile import TemporaryFile

from voiceflow_worker.campaigns.calls.values import Draft, UtcMidnight
from voiceflow_worker.campaigns.files.rows import RawRow, RowSource, SpooledRows, row_name
from voiceflow_worker.ivr.speech_filters import NO_DAYS, WITH_ZONE, zoned_moment
from voiceflow_worker.model.flows.values import is_missing
from voiceflow_worker.model.times import usual_moment

_FEWEST = 3
"""How many values make a column of days. The one day of a program's row may be a time in the evening."""
_TIMES_FOR_GOOD = 10
"""How many other times of day a column has at least that is no column of days, if most of its values are other ones."""
_AT_ONCE = 1000
_CLOCK = re.compile(r"\d:\d\d", re.ASCII)


@dataclass(slots=True)
class _Column:
    """The values of a column so far: those that are midnight in UTC, other times, and all others."""

    is_bare: bool
    """Whether its values are spoken as they are. Once it has others, only what may be such a midnight is looked at."""
    midnights: int = 0
    times: int = 0
    others: int = 0

    @property
    def is_of_days(self) -> bool:
        """Whether all are midnights, and enough, if these are all values."""
        return self.midnights >= _FEWEST and not (self.times or self.others)

    @property
    def is_of_times(self) -> bool:
        """Whether most are times of day, one of which may be midnight in UTC."""
        return 2 * self.midnights < self.midnights + self.times

    @property
    def may_be_of_days(self) -> bool:
        """Whether more rows matter."""
        return bool(self.midnights) and not (self.is_of_times and self.times >= _TIMES_FOR_GOOD)

    def add(self, cell: object) -> None:
        """Count a cell."""
        if is_missing(cell) or not str(cell).strip():
            return
        midnight, is_time = _read(str(cell).strip())
        if midnight is not None:
            self.midnights += 1
        elif is_time:
            self.times += 1
        else:
            self.others += 1


class UtcDays:
    """Finds the columns of days among those that texts and options of a `source` read as days or times, or speak.

    `key_of` gives the name of a column in rows; `spoken` are those whose values are spoken as they are; `data` has
    values that are the same for each row, of which no column tells. It is true once a value may be such a day.
    """

    def __init__(
        self,
        source: RowSource,
        key_of: Callable[[str], str],
        *,
        spoken: Iterable[str],
        but: Collection[str],
        data: Mapping[str, object],
    ) -> None:
        self._source, self._key_of = source, key_of
        names = source.moments.union(spoken).difference(but)
        self._columns = {name: _Column(is_bare=name not in source.moments) for name in names}
        self._places: dict[tuple[str, ...], list[tuple[int, _Column]]] = {}
        self._of_each_row = dict[str, UtcMidnight]()
        for name, value in data.items():
            column = self._columns.get(key := row_name(name))
            # Where its time of day is spoken, a program means a time.
            if column is None or key in source.clocks or not isinstance(value, str):
                continue
            if (moment := _read(value.strip())[0]) is not None:
                self._of_each_row[name] = UtcMidnight(
                    value, moment, is_day=False, asks_clock=False, is_bare=column.is_bare
                )

    def __bool__(self) -> bool:
        return bool(self._of_each_row) or any(each.midnights for each in self._columns.values())

    def rows(self) -> Iterator[RawRow]:
        """The rows of the source. From the first value on that may be such a day, they are read ahead into a file."""
        rows = iter(self._source)
        if not self._columns:
            yield from rows
            return
        for raw in rows:
            if not self._count(raw):
                yield raw
                continue
            with TemporaryFile() as file:
                for chunk in self._ahead(raw, rows, SpooledRows(file)):
                    yield from map(RawRow._make, chunk)

    def _ahead(self, first: RawRow, rows: Iterable[RawRow], spooled: SpooledRows) -> Iterable[list[tuple[object, ...]]]:
        """The rows from the first one on, as far as they must be known before the first one is read."""
        part = [tuple(first)]
        for raw in rows:
            is_open = self._count(raw)
            part.append(tuple(raw))
            if len(part) == _AT_ONCE:
                spooled.put(part)
                part = []
            if not is_open:
                break
        spooled.put(part)
        return spooled

    def _count(self, raw: RawRow) -> bool:
        """Count the cells of a row. Returns whether more rows must be known before it is read."""
        if (places := self._places.get(raw.names)) is None:
            keys = map(self._key_of, raw.names or self._source.columns)
            named = ((place, self._columns.get(row_name(key))) for place, key in enumerate(keys))
            places = self._places[raw.names] = [(place, each) for place, each in named if each is not None]
        has_any = False
        for place, column in places:
            cell = raw.cells[place] if place < len(raw.cells) else ""
            is_known = column.is_bare and (column.others or column.times)
            if not is_known or (isinstance(cell, str) and WITH_ZONE.search(cell) is not None):
                column.add(cell)
            has_any |= column.midnights > 0
        return has_any and any(each.may_be_of_days for each in self._columns.values())

    def mark(self, draft: Draft) -> None:
        """Write the days of a row out, and note which of its values are midnight in UTC: `RequestMaker` judges them."""
        draft.midnights.update(self._of_each_row)
        for key, column in self._columns.items():
            value = draft.variables.get(key)
            if not column.midnights or column.is_of_times or not isinstance(value, str):
                continue
            if (moment := _read(value.strip())[0]) is None:
                continue
            asks_clock = key in self._source.clocks
            draft.midnights[key] = UtcMidnight(value, moment, column.is_of_days, asks_clock, column.is_bare)
            if column.is_of_days:
                for texts in (draft.variables, draft.data):
                    if key in texts:
                        texts[key] = str(moment.date())


# A column of days has few values, and each is asked for twice.
@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[datetime | None, bool]:
    """The moment of a text with a zone of its own, if it is midnight in UTC; and whether it is a time of day."""
    moment = None
    if ":" in text and WITH_ZONE.search(text) is not None:
        with suppress(ValueError, OverflowError):
            moment = (found := zoned_moment(text)) and found.astimezone(UTC)
    if moment is not None and moment.time() == datetime.min.time() and moment.year not in NO_DAYS:
        return moment, True
    return None, _CLOCK.search(usual_moment(text)) is not None
