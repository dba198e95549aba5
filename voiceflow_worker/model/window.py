"""Calling windows, and the time zones of telephone numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding, Remedy
from voiceflow_worker.model.flows.rules import VALIDITY_EXPIRED
from voiceflow_worker.model.numbers.phone import is_e164, normalise
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.times import zone_named

_UNKNOWN = "Etc/Unknown"
_FIRST_LOOK = datetime(2026, 1, 1, tzinfo=UTC)
_LOOKS = 2 * 366


@dataclass(frozen=True, slots=True)
class NumberZone:
    """The time zone of a number. `zone` is None if the digits do not determine it; `among` are the possible zones."""

    zone: str | None
    among: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def zone_of_number(e164: str) -> NumberZone:
    """The zone of a number, by the data of `phonenumbers`. Never raises.

    Zones whose clocks always agree count as one: a British mobile number may be in London or on Jersey, and both show
    the same time.
    """
    # The import takes 10 ms, so it is done only for a call with a window and without a time zone.
    import phonenumbers
    from phonenumbers.timezone import time_zones_for_number

    if not is_e164(e164):
        return NumberZone(None)
    try:
        found = time_zones_for_number(phonenumbers.parse(normalise(e164)))
    except phonenumbers.NumberParseException:
        return NumberZone(None)
    names = tuple(name for name in found if name != _UNKNOWN)
    if not names or not _agree(names):
        return NumberZone(None, names)
    return NumberZone(names[-1], names)


@lru_cache(maxsize=256)
def _agree(names: Sequence[str]) -> bool:
    """Whether the clocks of these zones show the same time on every day of two years."""
    if len(names) == 1:
        return zone_named(names[0]) is not None
    zones = [zone_named(name) for name in names]
    moments = [_FIRST_LOOK + timedelta(days=each) for each in range(_LOOKS)]
    shown = {tuple(at.astimezone(zone).utcoffset() for at in moments) for zone in zones if zone is not None}
    return None not in zones and len(shown) == 1


MIDNIGHT = time(0)
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_SECOND = timedelta(seconds=1)
_FARTHEST_OPENING = 400
"""The number of days that are searched for an opening. A window that does not open within them counts as never open."""
_FARTHEST_END = 8
"""The number of days that are searched for an end. A window that stays open for more than a week counts as endless."""
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
    """A part of a local day, from `start` to `end`, without `end` itself. Both are whole minutes.

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
        """Whether the span ends on the next day."""
        return self.end <= self.start

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{'24:00' if self.end == MIDNIGHT else f'{self.end:%H:%M}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallWindow:
    """A calling window: `CallWindow.parse("09:00-20:00", days="mon-sat", holidays="SG")`.

    A span belongs to the day on which it begins: with `days="fri"`, 22:00-06:00 continues on Saturday morning. The
    window is closed on holidays of the calendars in `holidays` (ISO 3166: `SG`, `DE-BY`), from midnight to midnight; a
    span over midnight that begins on a holiday is left out. The window is closed in years whose holidays are unknown.
    """

    spans: tuple[Span, ...]
    days: frozenset[Weekday] = EVERY_DAY
    holidays: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.spans or not self.days:
            raise InvalidInputError("a calling window without hours, or without days, never opens; give hours and days")

    @classmethod
    def parse(cls, hours: str | None = None, *, days: str | None = None, holidays: str | None = None) -> CallWindow:
        """A window from texts such as `09:00-12:00,14:00-20:00`, `mon-fri,sun` and `SG,MY`.

        The default is the whole day, every day, holidays included. Raises InvalidInputError.
        """
        return cls(
            spans=(Span(MIDNIGHT, MIDNIGHT),) if hours is None else _read_spans(hours),
            days=EVERY_DAY if days is None else _read_days(days),
            holidays=() if holidays is None else tuple(read_calendar(part) for part in _parts(holidays, "holidays")),
        )

    @classmethod
    def recalled(cls, text: str) -> CallWindow:
        """The window whose `str` is this text.

        Equal texts give the same object. Raises ValueError for a text that is not a window.
        """
        return _recalled(text)

    def __str__(self) -> str:
        written = f"{','.join(map(str, self.spans))} {_days_in_words(self.days)}"
        return f"{written} {','.join(self.holidays)}" if self.holidays else written

    def is_open(self, at: datetime, zone: ZoneInfo) -> bool:
        """Whether a phone in this zone may ring at this moment. Raises InvalidInputError for an unknown calendar."""
        local = at.astimezone(zone)
        return self._is_open_locally(local.date(), local.time())

    def opens(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """The first time in UTC, from `at` on, at which a phone in this zone may ring.

        It is `at` itself while the window is open, and None if the window does not open within a year. Raises
        InvalidInputError for an unknown calendar.
        """
        for start, end in self._intervals(at, zone, days=_FARTHEST_OPENING):
            if at < end:
                return max(start, at.astimezone(UTC))
        return None

    def closes(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """The first time in UTC, from `at` on, at which the window is closed.

        None if the window stays open for about a week. Raises InvalidInputError for an unknown calendar.
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
        """The intervals in which the window is open, from the UTC day of `at` on. Each is divided at midnight UTC."""
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
    """The intervals in which a window is open on one UTC day.

    The window can open or close only at local midnight, at the start or end of a span, or when the local clock is
    changed.
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
    """The times, to the second, at which the UTC offset of a zone changes."""
    before = begin
    while before < end:
        after = before + _HOUR
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            yield _jump(zone, before, after)
        before = after


def _jump(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    offset = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


@lru_cache(maxsize=1024)
def _recalled(text: str) -> CallWindow:
    try:
        hours, days, *calendars = text.split(" ")
        holidays = tuple(calendars[0].split(",")) if calendars else ()
        return CallWindow(spans=_read_spans(hours), days=_read_days(days), holidays=holidays)
    except InvalidInputError as error:
        raise ValueError(f"not a calling window: {text!r}") from error


def _parts(text: str, what: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InvalidInputError(f"{text[:60]!r} has an empty entry: give {what}, separated by commas")
    return parts


def _read_spans(text: str) -> tuple[Span, ...]:
    return tuple(_read_span(part) for part in _parts(text, "hours"))


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


def _read_days(text: str) -> frozenset[Weekday]:
    days: set[Weekday] = set()
    for part in _parts(text.casefold(), "days"):
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


def _days_in_words(days: frozenset[Weekday]) -> str:
    """The days as text, such as `mon-fri,sun`, in the form that people write."""
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


def read_calendar(text: str) -> str:
    """The code of the calendar that a text such as `sg` or `DE-BY` names. Raises InvalidInputError if it is unknown."""
    code = text.strip().upper()
    code = "GB" + code[2:] if code[:2] == "UK" else code  # ISO 3166 reserves UK for this use
    if _CODE.fullmatch(code) is None:
        raise InvalidInputError(
            f"{text.strip()[:40]!r} is not a calendar of holidays: give a country such as SG, or a part of one such as "
            "DE-BY (ISO 3166)"
        )
    holidays_of(code, year=2026)  # any year, because only the code is checked
    return code


@lru_cache(maxsize=256)
def holidays_of(code: str, *, year: int) -> frozenset[date] | None:
    """The holidays of one year; None if the library does not have this year of the calendar.

    Raises InvalidInputError for a calendar that the library does not have.
    """
    # Imported only when holidays are needed: the import takes 40 ms, and the first country as long again.
    import holidays

    country, _, part = code.partition("-")
    try:
        found = holidays.country_holidays(country, subdiv=part or None, years=year)
    except NotImplementedError:
        raise InvalidInputError(
            f"the `holidays` library has no calendar for {code!r}: give a country such as SG, or a part of a country "
            "such as DE-BY (ISO 3166)"
        ) from None
    # Some calendars end soon, because nobody can compute their holidays: that of Sri Lanka gets one year at a time.
    return frozenset(found) if found.start_year <= year <= found.end_year else None


_MOST_NAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The time from which a call may ring, and the time zone of its window. A call with a `problem` is not enqueued."""

    at: datetime
    time_zone: str | None
    problem: Finding | None = None


def first_opening(
    window: CallWindow, *, numbers: Sequence[str], time_zone: str | None, at: datetime, valid_until: datetime | None
) -> Opening:
    """The first time, from `at` on, at which a call to this person may ring.

    The hours of the window are local time in `time_zone`. Without `time_zone`, they are local time at the numbers, if
    their digits determine one time zone. Never raises: problems are findings.
    """
    name, problem = _zone_for(numbers[0], time_zone)
    for number in numbers[1:] if time_zone is None and problem is None else ():
        other, problem = _zone_for(number, None)
        if problem is None and other != name:
            message = (
                f"{numbers[0]} and {number} of one person are in different time zones ({name} and {other}), so the "
                f"local time for their calling window is not known: {Remedy.NAME_TIME_ZONE}"
            )
            problem = Finding(column="time_zone", message=message, remedy=Remedy.NAME_TIME_ZONE)
        if problem is not None:
            name = None
            break
    zone = zone_named(name) if name is not None else None
    if zone is None:
        return Opening(at=at, time_zone=time_zone, problem=problem)
    try:
        opens = window.opens(at, zone)
    except InvalidInputError as error:
        return Opening(at=at, time_zone=name, problem=Finding(message=str(error)))
    if opens is None:
        message = f"its calling window ({window}) does not open within a year; give other hours or days"
        if window.holidays:
            message += ". Or the `holidays` library on this machine lacks the year of the call: install a newer one"
        return Opening(at=at, time_zone=name, problem=Finding(message=message))
    if valid_until is not None and opens >= valid_until:
        message = (
            f"its calling window ({window}) opens in {name} at {in_words(opens)}, but its validity ends at "
            f"{in_words(valid_until)}; {Remedy.GIVE_VALIDITY}, or a wider window"
        )
        expired = Finding(message=message, code=VALIDITY_EXPIRED, remedy=Remedy.GIVE_VALIDITY)
        return Opening(at=opens, time_zone=name, problem=expired)
    return Opening(at=opens, time_zone=name)


def _zone_for(number: str, time_zone: str | None) -> tuple[str | None, Finding | None]:
    if time_zone is not None:
        message = f"{time_zone[:40]!r} is not a time zone; give a name such as Asia/Singapore"
        return time_zone, Finding(column="time_zone", message=message)
    found = zone_of_number(number)
    if found.zone is not None:
        return found.zone, None
    if found.among:
        names = ", ".join(found.among[:_MOST_NAMES])
        more = f" and {len(found.among) - _MOST_NAMES} more" if len(found.among) > _MOST_NAMES else ""
        where = f"may be in several time zones ({names}{more})"
    else:
        where = "is in an unknown time zone"
    message = (
        f"{number} {where}, so the local time for its calling window is not known: {Remedy.NAME_TIME_ZONE} (for "
        "example America/New_York)"
    )
    return None, Finding(column="time_zone", message=message, remedy=Remedy.NAME_TIME_ZONE)
