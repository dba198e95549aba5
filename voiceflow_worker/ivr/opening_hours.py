"""Opening hours of a business."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date, datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from voiceflow_worker.errors import InvalidInputError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_PART = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? +)?(\d{1,2}:\d\d)-(\d{1,2}:\d\d)")


class OpeningHours:
    """The hours of a business: `OpeningHours("mon-fri 09:00-18:00, sat 10:00-14:00", zone="Asia/Singapore")`.

    A part without days applies to every day. Hours past midnight (`fri 18:00-02:00`) belong to the day they begin on.
    No hours begin on `closed` dates. Raises InvalidInputError for hours that cannot be read, or an unknown zone.
    """

    def __init__(self, hours: str, *, zone: str, closed: Collection[date] = ()) -> None:
        try:
            self._zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise InvalidInputError(f"there is no time zone {zone!r}; give one such as Asia/Singapore") from None
        self._closed = frozenset(closed)
        self._open: dict[int, list[tuple[time, time]]] = {}
        for part in hours.lower().split(","):
            days, opens, closes = _read(part.strip())
            for day in days:
                self._open.setdefault(day, []).append((opens, closes))

    def is_open(self, at: datetime) -> bool:
        """True if the business is open at this aware time. At the closing time itself it is closed."""
        local = at.astimezone(self._zone)
        today, now = local.date(), local.time()
        yesterday = date.fromordinal(today.toordinal() - 1)
        return any(
            opens <= now < closes if opens < closes else opens <= now for opens, closes in self._of(today)
        ) or any(opens >= closes and now < closes for opens, closes in self._of(yesterday))

    def _of(self, day: date) -> list[tuple[time, time]]:
        return [] if day in self._closed else self._open.get(day.weekday(), [])


def _read(part: str) -> tuple[list[int], time, time]:
    match = _PART.fullmatch(part)
    try:
        if match is None:
            raise ValueError
        first = _DAYS.index(match[1]) if match[1] else 0
        last = _DAYS.index(match[2]) if match[2] else first if match[1] else 6
        days = [(first + step) % 7 for step in range((last - first) % 7 + 1)]
        return days, _time(match[3]), _time(match[4])
    except ValueError:
        raise InvalidInputError(
            f"{part!r} are not opening hours: write them like mon-fri 09:00-18:00, sat 10:00-14:00"
        ) from None


def _time(text: str) -> time:
    hour, _, minute = text.partition(":")
    if text == "24:00":
        return time(0)
    return time(int(hour), int(minute))
