"""Times at a distance from those in a column of each row, such as 24 hours before a visit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.model.times import read_time

_FORM = re.compile(r"(.*\S)\s*([-+\u2212\u2013])\s*(\d[\d.]*\s*[^\W\d_]+(?:\s*\d[\d.]*\s*[^\W\d_]+)*)", re.DOTALL)
_PART = re.compile(r"(\d[\d.]*)\s*([^\W\d_]+)")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_QUOTES = "\"'"
MOST_DAYS = 3660


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnTime:
    """A time of each row, counted from the time in its `column`: `ColumnTime.read("visit - 24h")`.

    First come the `days`, which keep the hour of the day when clocks change, and then `elapsed` time, which does not.
    Both are below 0 before the time of the column. `written` is the text.
    """

    column: str
    days: int
    elapsed: timedelta
    written: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The time that a text such as `visit - 1d 2h` means; None for a text of another form. Raises ValueError."""
        match = _FORM.fullmatch(text.strip())
        if match is None:
            return None
        column, sign, distance = match.groups()
        days, elapsed = 0, timedelta()
        for number, unit in _PART.findall(distance):
            try:
                if unit.lower() != "d":
                    elapsed += read_duration(f"{number}{unit}")
                elif number.isdecimal() and int(number) <= MOST_DAYS:
                    days += int(number)
                else:
                    raise ValueError
            except ValueError:
                raise ValueError(
                    f"{distance!r} is no distance from the time in {column!r}: write whole days, hours or minutes, "
                    "such as 1d, 24h or 90m"
                ) from None
        if len(column) > 1 and column[0] == column[-1] and column[0] in _QUOTES:
            column = column[1:-1]
        if sign != "+":
            days, elapsed = -days, -elapsed
        return cls(column=column, days=days, elapsed=elapsed, written=text.strip())

    @property
    def is_before(self) -> bool:
        """Whether this is not later than the time in the column."""
        return (self.days, self.elapsed) <= (0, timedelta())

    def __str__(self) -> str:
        return self.written

    def of(self, cell: str, zone: ZoneInfo | None) -> tuple[datetime, datetime]:
        """The time that a cell of the column has, and the one at the distance, in UTC. Local times are of `zone`.

        Raises ValueError, with a clause, unless both are certain.
        """
        if _DAY.fullmatch(cell.strip()):
            raise ValueError(f"{cell!r} has no time of day, from which {self} could be counted: write {cell} 09:00")
        moment = counted = read_time(cell, zone=zone)
        try:
            if self.days:
                counted = self._some_days_from(moment, zone)
            return moment, (counted + self.elapsed).astimezone(UTC)
        except OverflowError:
            raise ValueError(f"{cell[:40]!r} is too near the ends of the calendar for {self}") from None

    def _some_days_from(self, moment: datetime, zone: ZoneInfo | None) -> datetime:
        if zone is None:
            raise ValueError(
                f"{self} keeps the hour of the day, and nothing says by which clock: give a time_zone such as "
                "Asia/Singapore, or count in hours"
            )
        local = moment.astimezone(zone).replace(tzinfo=None) + timedelta(days=self.days)
        try:
            return read_time(local.isoformat(" "), zone=zone)
        except ValueError as error:
            raise ValueError(f"{self} cannot be told: {str(error).partition(';')[0]}; count in hours") from None
