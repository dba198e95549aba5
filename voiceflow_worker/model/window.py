"""Calling windows: the hours, days and holidays in which a phone may ring."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from functools import cache, lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.numbers.phone import dialled_alike
from voiceflow_worker.model.tables import rows_of
from voiceflow_worker.model.zones import read_zone, zone_named

MIDNIGHT = time(0)
_DAY = timedelta(days=1)
_QUARTER = timedelta(minutes=15)
_FARTHEST_OPENING = 400
"""The days that are searched for an opening. A window that does not open within them counts as never open."""
_FARTHEST_END = 8
"""The days that are searched for an end. A window that stays open for more than a week counts as endless."""
_IN = " in "
"""The separator before the zone of a window whose hours do not count at the number called."""
_SPAN = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?\s*[-\u2013]\s*([0-9]{1,2})(?::([0-9]{2}))?")


class Weekday(IntEnum):
    """A day of the week, numbered as `date.weekday` does."""

    MON = 0
    TUE = 1
    WED = 2
    THU = 3
    FRI = 4
    SAT = 5
    SUN = 6


EVERY_DAY = frozenset(Weekday)
_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a local day, from `start` to `end`, without `end` itself, in whole minutes.

    If the end is not later than the start, the span continues on the next day. Midnight to midnight is a whole day.
    """

    start: time
    end: time

    def __post_init__(self) -> None:
        # Stores keep only hours and minutes: 00:00:10 to 00:00:20 would be read back as the whole day.
        if any(each != time(each.hour, each.minute) for each in (self.start, self.end)):
            raise InvalidInputError(f"a window begins and ends on whole minutes, not at {self.start} or {self.end}")
        if self.start == self.end != MIDNIGHT:
            raise InvalidInputError(
                f"the window {self} is empty, because it ends when it starts; a whole day is 00:00-24:00"
            )

    @property
    def is_over_midnight(self) -> bool:
        """True if the span ends on the next day."""
        return self.end <= self.start

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{'24:00' if self.end == MIDNIGHT else f'{self.end:%H:%M}'}"


WHOLE_DAY = (Span(MIDNIGHT, MIDNIGHT),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallWindow:
    """A calling window: `CallWindow.parse("09:00-20:00", days="mon-sat", holidays="SG")`.

    A span belongs to the day on which it begins: with `days="fri"`, 22:00-06:00 continues on Saturday morning. The
    window is closed on holidays of the calendars in `holidays` (ISO 3166: `SG`, `DE-BY`), and on own days in it
    (`2026-12-28`, `2026-12-24..2027-01-01`); a span that begins on one is left out. It is closed in years whose
    holidays are unknown. Hours and days are local at the number called, or in `time_zone`.
    """

    spans: tuple[Span, ...]
    days: frozenset[Weekday] = EVERY_DAY
    holidays: tuple[str, ...] = ()
    time_zone: str | None = None

    def __post_init__(self) -> None:
        if not self.spans or not self.days:
            raise InvalidInputError("a calling window without hours, or without days, never opens; give hours and days")

    @classmethod
    def parse(
        cls,
        hours: str | None = None,
        *,
        days: str | None = None,
        holidays: str | None = None,
        time_zone: str | None = None,
    ) -> CallWindow:
        """Read a window from texts such as `09:00-12:00,14:00-20:00`, `mon-fri,sun` and `SG,MY`.

        The default is the whole day, every day, holidays included. Raises InvalidInputError.
        """
        return cls(
            spans=WHOLE_DAY if hours is None else read_spans(hours),
            days=EVERY_DAY if days is None else read_days(days),
            holidays=() if holidays is None else tuple(read_calendar(part) for part in parts(holidays, "holidays")),
            time_zone=None if time_zone is None else read_window_zone(time_zone),
        )

    def zone_for(self, person: str | None) -> ZoneInfo | None:
        """Return the zone in which the hours count for a person in the zone `person`; None if it is not known here."""
        name = self.time_zone or person
        return None if name is None else zone_named(name)

    @staticmethod
    @lru_cache(maxsize=1024)
    def recalled(text: str) -> CallWindow:
        """Return the window whose `str` is this text. Raises ValueError for a text that is not a window."""
        try:
            written, _, zone = text.partition(_IN)
            hours, days, *calendars = written.split(" ")
            holidays = tuple(calendars[0].split(",")) if calendars else ()
            return CallWindow(spans=read_spans(hours), days=read_days(days), holidays=holidays, time_zone=zone or None)
        except InvalidInputError as error:
            raise ValueError(f"not a calling window: {text!r}") from error

    def __str__(self) -> str:
        written = f"{','.join(map(str, self.spans))} {days_in_words(self.days)}"
        written = f"{written} {','.join(self.holidays)}" if self.holidays else written
        return written if self.time_zone is None else f"{written}{_IN}{self.time_zone}"

    def is_open(self, at: datetime, zone: ZoneInfo) -> bool:
        """Return whether a phone in this zone may ring at this moment. Raises InvalidInputError."""
        local = at.astimezone(zone)
        return self._is_open_locally(local.date(), local.time())

    def opens(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the first time in UTC, from `at` on, at which a phone in this zone may ring; None within a year.

        Raises InvalidInputError for an unknown calendar.
        """
        for start, end in self._intervals(at, zone, days=_FARTHEST_OPENING):
            if at < end:
                return max(start, at.astimezone(UTC))
        return None

    def closes(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the first time in UTC, from `at` on, at which the window is closed; None for about a week.

        Raises InvalidInputError for an unknown calendar.
        """
        last = at.astimezone(UTC)
        for start, end in self._intervals(at, zone, days=_FARTHEST_END):
            if end <= last:
                continue
            if start > last:
                return last
            last = end
        return None if last > at + (_FARTHEST_END - 2) * _DAY else last

    def _intervals(self, at: datetime, zone: ZoneInfo, *, days: int) -> Iterator[tuple[datetime, datetime]]:
        """Yield the intervals in which the window is open, from the UTC day of `at` on, divided at midnight UTC."""
        first = at.astimezone(UTC).date()
        for each in range(days):
            yield from _open_on(self, zone, first + each * _DAY)

    def _is_open_locally(self, day: date, clock: time) -> bool:
        for span in self.spans:
            if not span.is_over_midnight:
                if span.start <= clock < span.end and self._is_on(day):
                    return True
            elif clock >= span.start:
                if self._is_on(day):
                    return True
            elif clock < span.end and self._is_on(day - _DAY) and not self._is_holiday(day):
                return True
        return False

    def _is_on(self, day: date) -> bool:
        return Weekday(day.weekday()) in self.days and not self._is_holiday(day)

    def _is_holiday(self, day: date) -> bool:
        known = (holidays_of(code, year=day.year) for code in self.holidays)
        return any(holidays is None or day in holidays for holidays in known)


@lru_cache(maxsize=2048)
def _open_on(window: CallWindow, zone: ZoneInfo, day: date) -> tuple[tuple[datetime, datetime], ...]:
    """Return the intervals in which a window is open on one UTC day.

    It can open or close only at local midnight, at the start or end of a span, or when the local clock is changed.
    """
    begin = datetime.combine(day, MIDNIGHT, tzinfo=UTC)
    end = begin + _DAY
    shown = {MIDNIGHT, *(span.start for span in window.spans), *(span.end for span in window.spans)}
    local_days = {begin.astimezone(zone).date(), end.astimezone(zone).date()}
    edges = {
        datetime.combine(local, clock, tzinfo=zone).replace(fold=fold).astimezone(UTC)
        for local in local_days
        for clock in shown
        for fold in (0, 1)
    }
    edges |= {begin, *_jumps(zone, begin, end)}
    moments = [*sorted(edge for edge in edges if begin <= edge < end), end]
    found: list[tuple[datetime, datetime]] = []
    for start, until in pairwise(moments):
        if window.is_open(start, zone):
            if found and found[-1][1] == start:
                start = found.pop()[0]  # noqa: PLW2901 (two stretches that touch are one)
            found.append((start, until))
    return tuple(found)


def _jumps(zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the time of a day at which the UTC offset of a zone changes: clocks are changed at quarter hours."""
    offset = begin.astimezone(zone).utcoffset()
    if end.astimezone(zone).utcoffset() != offset:
        moments = (begin + each * _QUARTER for each in range(1, _DAY // _QUARTER + 1))
        yield next(at for at in moments if at.astimezone(zone).utcoffset() != offset)


def parts(text: str, what: str) -> list[str]:
    """Return the entries of a text with commas: `what` says of what. Raises InvalidInputError for an empty one."""
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise InvalidInputError(f"{text[:60]!r} has an empty entry: give {what}, separated by commas")
    return found


def read_window_zone(name: str) -> str:
    """Return the name of the zone that the hours of a window count in. Raises InvalidInputError."""
    try:
        return read_zone(name).key
    except ValueError as error:
        raise InvalidInputError(str(error)) from None


def read_spans(text: str) -> tuple[Span, ...]:
    """Return the spans in a text such as `09:00-12:00,14:00-20:00`. Raises InvalidInputError."""
    return tuple(_read_span(part) for part in parts(text, "hours"))


def _read_span(text: str) -> Span:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"{text[:40]!r} is not a calling window: write it as 09:00-20:00")
    start_hour, start_minute, end_hour, end_minute = (int(part or 0) for part in match.groups())
    try:
        start = time(start_hour, start_minute)
        end = MIDNIGHT if (end_hour, end_minute) == (24, 0) else time(end_hour, end_minute)
    except ValueError:
        raise InvalidInputError(f"{text!r} is not a calling window: give times from 00:00 to 24:00") from None
    return Span(start, end)


def read_days(text: str) -> frozenset[Weekday]:
    """Return the days in a text such as `mon-fri,sun`. Raises InvalidInputError."""
    days: set[Weekday] = set()
    for part in parts(text.casefold(), "days"):
        first, dash, last = (each.strip() for each in part.replace("\u2013", "-").partition("-"))
        begin = _read_day(first, text)
        end = _read_day(last, text) if dash else begin
        days |= {Weekday((begin + step) % 7) for step in range((end - begin) % 7 + 1)}
    return frozenset(days)


def _read_day(name: str, text: str) -> Weekday:
    for day, long_name in zip(Weekday, _NAMES, strict=True):
        if len(name) >= len("mon") and long_name.startswith(name):
            return day
    raise InvalidInputError(f"{text[:60]!r} has a part that is not a day, {name[:20]!r}: write mon-sat, or mon,wed,fri")


def days_in_words(days: frozenset[Weekday]) -> str:
    """Return the days as text, such as `mon-fri,sun`."""
    runs: list[list[Weekday]] = []
    for day in sorted(days):
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    names = [
        run[0].name if len(run) == 1 else f"{run[0].name}{'-' if len(run) > 2 else ','}{run[-1].name}" for run in runs
    ]
    return ",".join(names).lower()


_CODE = re.compile(r"([A-Z]{2})(?:-([A-Z0-9]{1,6}))?")
_OWN_DAYS = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.\.([0-9]{4}-[0-9]{2}-[0-9]{2}))?")
_LONGEST_CLOSED = timedelta(days=366)


def read_calendar(text: str) -> str:
    """Return the calendar that a text such as `sg` or `DE-BY` names, or own days: `2026-12-24..2027-01-01`.

    Raises InvalidInputError if it is unknown.
    """
    code = text.strip().upper()
    if (own := _OWN_DAYS.fullmatch(code)) is not None:
        try:
            first, last = (date.fromisoformat(each) for each in (own[1], own[2] or own[1]))
        except ValueError:
            raise InvalidInputError(f"{code!r} has a day that no calendar has: write it as 2026-12-28") from None
        if not timedelta() <= last - first < _LONGEST_CLOSED:
            raise InvalidInputError(
                f"{code!r} ends before it begins, or after more than a year: give days that are closed"
            )
        return code
    code = "GB" + code[2:] if code[:2] == "UK" else code  # ISO 3166 reserves UK for this use
    if _CODE.fullmatch(code) is None:
        raise InvalidInputError(
            f"{text.strip()[:40]!r} is not a calendar of holidays: give a country such as SG, a part of one such as "
            "DE-BY (ISO 3166), or days such as 2026-12-28 or 2026-12-24..2027-01-01"
        )
    holidays_of(code, year=2026)  # any year, because only the code is checked
    return code


@lru_cache(maxsize=1024)
def holidays_of(code: str, *, year: int) -> frozenset[date] | None:
    """Return the holidays of one year on which offices are closed; None if the library does not have this year.

    They are the public ones, those of further categories of the library for the countries in holidays.tsv, and those in
    closed_days.tsv; of a country without a part, those that each of its parts has. Of own days, they are these. Raises
    InvalidInputError for a calendar that the library does not have.
    """
    if (own := _OWN_DAYS.fullmatch(code)) is not None:
        first, last = (date.fromisoformat(each) for each in (own[1], own[2] or own[1]))
        days = (first + each * _DAY for each in range((last - first).days + 1))
        return frozenset(day for day in days if day.year == year)
    # Imported only when holidays are needed: the import takes 40 ms, and the first country as long again.
    from holidays import country_holidays

    country, _, part = code.partition("-")
    try:
        kinds = country_holidays(country, subdiv=part or None)
    except NotImplementedError:
        raise InvalidInputError(
            f"the `holidays` library has no calendar for {code!r}: give a country such as SG, or a part of a country "
            "such as DE-BY (ISO 3166)"
        ) from None
    # Some calendars end soon, because nobody can compute their holidays: that of Sri Lanka gets one year at a time.
    if not kinds.start_year <= year <= kinds.end_year:
        return None
    closing = {"public", *_closing().get(country, ())}.intersection(kinds.supported_categories)
    found = country_holidays(country, subdiv=part or None, years=year, categories=tuple(sorted(closing)))
    closed = {day for day in {*found, *_closed_days().get(country, ())} if day.year == year}
    own_numbers = {*dialled_alike(country)}  # such as Puerto Rico, which is no part that a number of the US may be in
    parts = [] if part else [each for each in kinds.subdivisions if each not in own_numbers]
    everywhere = [holidays_of(f"{code}-{each}", year=year) or frozenset[date]() for each in parts]
    one = everywhere[0] if everywhere else ()
    return frozenset(closed).union(day for day in one if all(day in each for each in everywhere))


def are_own_days(code: str) -> bool:
    """Return whether a calendar is days that somebody has named, and not that of a country."""
    return _OWN_DAYS.fullmatch(code) is not None


@cache
def _closing() -> Mapping[str, Sequence[str]]:
    """Return the categories of holidays that close offices beside the public ones, by country."""
    return {country: categories.split() for country, categories, _why in rows_of("holidays.tsv")}


@cache
def _closed_days() -> Mapping[str, Sequence[date]]:
    """Return the days on which offices are closed and that the library does not have, by country."""
    rows = rows_of("closed_days.tsv")
    return {country: [*map(date.fromisoformat, days.split())] for country, days, _name, _source in rows}


def unknown_holidays(calendars: Iterable[str], *, years: Iterable[int]) -> str:
    """Return the calendars with the years for which no holidays are known, and the effect; empty without any."""
    found = [(code, year, holidays_of(code, year=year)) for code in calendars for year in years]
    return "; ".join(
        f"{code} in {year}, so {'nobody rings in that year' if days is None else 'no day is left out'}"
        for code, year, days in found
        if not days and not are_own_days(code)
    )
