"""Times at a distance from those in a column of each row, such as 24 hours before a visit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from voiceflow_worker.model.times import read_time

_FORM = re.compile(r"(.*\S)\s*([-+\u2212\u2013])\s*(\d{1,4})\s*([dhm])", re.DOTALL | re.IGNORECASE)
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnTime:
    """A time of each row, counted from the time in its `column`: `ColumnTime.read("visit - 24h")`.

    Whole `days` keep the hour of the day when clocks change; `elapsed` time does not. Both are below 0 before the time
    of the column. `written` is the text.
    """

    column: str
    days: int
    elapsed: timedelta
    written: str

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the time that a text such as `visit - 1d` means; None for a text of another form."""
        if (match := _FORM.fullmatch(text.strip())) is None:
            return None
        count, unit = int(match[3]) * (1 if match[2] == "+" else -1), match[4].lower()
        days, elapsed = (count, timedelta()) if unit == "d" else (0, count * _UNITS[unit])
        return cls(column=match[1], days=days, elapsed=elapsed, written=text.strip())

    @property
    def is_before(self) -> bool:
        """True if this is not later than the time in the column."""
        return (self.days, self.elapsed) <= (0, timedelta())

    def __str__(self) -> str:
        return self.written

    def of(self, cell: str, zone: ZoneInfo | None) -> tuple[datetime, datetime]:
        """Return the time in a cell of the column, and the one at the distance, in UTC. Local times are of `zone`.

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
            raise ValueError(f"{self} is no certain time: {str(error).partition(';')[0]}; count in hours") from None
