"""Times as people write them, with an offset or in a time zone; the time zones of numbers and people."""

from __future__ import annotations

import re
from calendar import day_name
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from voiceflow_worker.finding import tell
from voiceflow_worker.model.numbers.phone import planned, usual_form
from voiceflow_worker.model.numbers.zones import listed_prefixes, listed_zones
from voiceflow_worker.model.text.arguments import offset_problem
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.model.zones import EXAMPLE, zone_file, zone_named

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber


_FORM = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)\s*([Zz]|[+-]\d{2}:?\d{2})?", re.ASCII
)
_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_PLAIN = re.compile(rf"{_ISO_DAY.pattern}|\d{{1,2}}:\d{{2}}(?::\d{{2}})?", re.ASCII)
_AT = re.compile(
    r"(?:^|[ ,Tt]\s*|\s+at\s+)(?:(?P<hour>\d{1,2})(?:[:.]?(?P<minute>\d{2}))?(?P<seconds>:\d{2}(?:\.\d{1,9})?)?"
    r"\s*(?P<half>[AaPp])\.?\s?(?:[Mm]\.?)?|(?P<full>\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)|(?P<digits>\d{4})|"
    r"(?P<named>\d{1,2}) ?h(?: ?(?P<past>\d{2})(?: ?min)?)?|(?P<uhr>\d{1,2}[:.]\d{2}) ?(?:h|hrs|uhr|uur))"
    r"(?P<offset>\s*(?:[Zz]|UTC|GMT|[+-]\d{2}:?\d{2}))?$", re.ASCII | re.IGNORECASE,
)  # fmt: skip
"""A time of day as people write it at the end of a text: 9am, 2.30 pm, 8:00a, 09:30, 14h05, 14.05 Uhr; 0830 behind a
day alone."""
_FOUR_DIGITS = re.compile(r"(?:[01]\d|2[0-3])[0-5]\d", re.ASCII)
_FOUR_DIGIT_YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)", re.ASCII)
_SHOWN = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d", re.ASCII)
"""A time of day that clocks show."""
_WORDS = re.compile(r"[^\W\d_]+")
_DAY = re.compile(r"(today|tomorrow)[ ,]+(.*)", re.IGNORECASE | re.DOTALL)
_DATE = re.compile(r"(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})(?=[T ,]|$)", re.ASCII)
_SHORT_YEAR = re.compile(r"\d{1,2}([/.-])\d{1,2}\1\d{2}(?!\d)", re.ASCII)
_WITH_YEAR = re.compile(
    r"(?<![\d/.-])(?:(\d{4})([/.-])\d{1,2}\2\d{1,2}|\d{1,2}([/.-])\d{1,2}\3(\d{4}))(?!\d|[/.-]\d)", re.ASCII
)
DATE_LIKE = re.compile(r"\d[/.-]\d{1,2}[/.-]\d", re.ASCII)
"""What each date in figures has in it."""
_SWAPPABLE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(?!\1)(?:0[1-9]|1[0-2])(?!\d)", re.ASCII)
_ZERO_DAYS = re.compile(r"19(?:04-01-01|69-12-31|70-01-01)")
_BUDDHIST = 543
"""The years by which the Buddhist calendar is ahead."""


class DateOrder(StrEnum):
    """The order of day, month and year in the dates of a file."""

    DMY = "dmy"
    MDY = "mdy"
    YMD = "ymd"


def with_iso_date(text: str, order: DateOrder) -> str:
    """The text, with the date at its beginning as 2030-01-31: `31/1/2030 9:00` becomes `2030-01-31 9:00` in `dmy`.

    The parts of a date may have /, . or - between them, and the year has four digits. Other texts, and dates such as
    2030-01-31, stay as they are. Raises ValueError, with a clause, for a day that this order does not have.
    """
    match = _DATE.match(text)
    if match is None or 4 not in (len(match[1]), len(match[4])) or (len(match[1]) == 4 and match[2] == "-"):
        return text
    found = dict(zip(order, (match[1], match[3], match[4]), strict=True))
    try:
        if len(found["y"]) != 4:  # the year stands elsewhere
            raise ValueError
        day = date(int(found["y"]), int(found["m"]), int(found["d"]))
    except ValueError:
        raise ValueError(f"holds {match[0]!r}, which is no date in the order {order}; correct it") from None
    rest = text[match.end() :]
    return f"{day}{' ' + rest.lstrip(', ') if rest else ''}"


@lru_cache(maxsize=4096)
def usual_moment(text: str) -> str:
    """A date and a time of day as 2030-01-31 09:00, or one of them, if people write it so in one meaning.

    `30 Nov 2026`, `January 15, 2030 10:30 am`, `30/11/2026`, `9am` and `2.30 pm` have one meaning. 01/12/2026 has two:
    like any other text, it stays as it is.
    """
    if _PLAIN.fullmatch(text) or _FORM.fullmatch(text):
        return text
    at, read = _AT.search(text), [(text, "")]
    if at is not None and (at.start() or not at["digits"]):
        read.insert(0 if at["offset"] else 1, (text[: at.start()], _clock(at)))  # midnight in a zone is no mere day
    for written, behind in read:
        day = written.strip().rstrip(" ,")
        if day and not _ISO_DAY.fullmatch(day) and (day := str(_day_in(day) or "")) == "":
            continue
        return " ".join(filter(None, (day, behind))) if not behind or _SHOWN.match(behind) else text
    return text


def usual_clock(text: str) -> str:
    """The same of a text that stands for a time of day: 0830 is 08:30, and no year."""
    return f"{text[:2]}:{text[2:]}" if _FOUR_DIGITS.fullmatch(text) else usual_moment(text)


def _clock(at: re.Match[str]) -> str:
    """A time of day as 09:30, with its seconds and its offset. An hour that no clock shows is 24 or more."""
    if at["half"] is not None:
        hour, rest = int(at["hour"]), f"{at['minute'] or '00'}{at['seconds'] or ''}"
        hour = hour % 12 + 12 * (at["half"] in "pP") if 1 <= hour <= 12 else 24
    elif at["named"] is not None:
        hour, rest = int(at["named"]), at["past"] or "00"
    else:
        found = at["full"] or at["uhr"] or f"{at['digits'][:2]}:{at['digits'][2:]}"
        digits, _, rest = (found.replace(".", ":") if at["uhr"] else found).partition(":")
        hour = int(digits)
    return f"{hour:02}:{rest}{at['offset'] or ''}"


_YEARS = range(1901, 2200)
_FILLED_IN = (datetime(2001, 1, 1), datetime(2002, 2, 2))  # noqa: DTZ001 - days without a clock


def _day_in(text: str) -> date | None:
    """The day that a text names, whichever order its parts are read in, without anything that it does not say; or None.

    A weekday beside it must be that of the day. Years of other calendars are none of a day in words.
    """
    found = _moments_in(text)
    day = min(found, default=None)
    is_certain = day is not None and len(found) == 1 and day == datetime.combine(day, datetime.min.time())
    is_day = day is not None and is_certain and day.year in _YEARS and not _has_other_weekday(text, day)
    return day.date() if day is not None and is_day else None


def _moments_in(text: str) -> set[datetime]:
    """Each moment that a text may name; none if it is no date in words."""
    if not _FOUR_DIGIT_YEAR.search(text) or text.isdigit():
        return set()
    from dateutil import parser  # most files have no such dates

    read: Any = parser.parse
    found = set[datetime]()
    for is_day_first, is_year_first, default in product((True, False), (True, False), _FILLED_IN):
        try:
            found.add(read(text, dayfirst=is_day_first, yearfirst=is_year_first, default=default, ignoretz=True))
        except (ValueError, OverflowError):
            return set()
    return found


def _has_other_weekday(text: str, day: date) -> bool:
    names = {day_name[each][:3].casefold() for each in range(7) if each != day.weekday()}
    return not names.isdisjoint(word[:3].casefold() for word in _WORDS.findall(text))


def day_of_other_weekday(text: str) -> date | None:
    """The day of a text whose weekday is not that of the day; None for other texts."""
    days = {each.date() for each in _moments_in(text)}
    return next((day for day in days if len(days) == 1 and _has_other_weekday(text, day)), None)


def begins_with_ordered_date(text: str) -> bool:
    """True if a text begins with a date such as 31/1/2030 or 2030/1/31, which is read only with a given order."""
    match = _DATE.match(text)
    return match is not None and 4 in (len(match[1]), len(match[4])) and not (len(match[1]) == 4 and match[2] == "-")


def may_be_swapped(text: str) -> bool:
    """True if a text begins with a date such as 2030-04-03, whose day a spreadsheet may have taken for its month."""
    return _SWAPPABLE.match(text) is not None


class DoubtfulYear(NamedTuple):
    """A date with a year that people hardly mean, as it is `written`, and why, as a clause."""

    written: str
    year: int
    why: str
    may_be_meant: bool = False

    @property
    def is_buddhist(self) -> bool:
        """Whether it is a year of these days in the Buddhist calendar, which people use in Thailand."""
        return 1900 <= self.year - _BUDDHIST < 2100


def doubtful_year(text: str) -> DoubtfulYear | None:
    """The first date in a text with a year that people hardly mean, such as 1900, 2573 or 9999; None without one."""
    for match in _WITH_YEAR.finditer(text):
        found = DoubtfulYear(match[0], int(match[1] or match[4]), "")
        year, right = found.year, "leave the cell empty, or write the date, such as 2030-01-31"
        if found.is_buddhist:
            right = f"write {match[0].replace(str(year), str(year - _BUDDHIST))}"
            why = f"has {match[0]!r}, probably a year of the Buddhist calendar: {right}"
        elif 1300 <= year < 1500:
            why = f"has {match[0]!r}, probably a year of the Islamic or Persian calendar: write the date as 2030-01-31"
        elif year <= 1900 or year >= 2200:
            why = f"has {match[0]!r}, which programs write where there is no date: {right}"
        elif 1910 <= year < 2100 and not _ZERO_DAYS.match(match[0]):
            continue
        else:
            return found._replace(why=f"has {match[0]!r}: if nobody means this date, {right}", may_be_meant=True)
        return found._replace(why=why)
    return None


_SERIALS, _SECONDS = range(36_526, 73_051), range(946_684_800, 4_102_444_800)
"""The days from 2000 to 2100 as spreadsheets count them, and the seconds of these years since 1970."""
_COUNTED = re.compile(r"(\d{5})(\.\d{1,15})?|(\d{10}|\d{13}|\d{16}|\d{19})(?:\.0|\.\d{1,6})?", re.ASCII)


def counted_moment(text: str) -> tuple[str, str] | None:
    """The moment that a number stands for, such as 47514.4375 or 1896057000000, and what it counts; None for others."""
    match = _COUNTED.fullmatch(text.strip())
    if match is None:
        return None
    if match[1] is not None:
        if int(match[1]) not in _SERIALS:
            return None
        minutes = round(float(match[2] or 0) * 1440)
        moment = datetime(1899, 12, 30, tzinfo=UTC) + timedelta(days=int(match[1]), minutes=minutes)
        return f"{moment:%Y-%m-%d %H:%M}".removesuffix(" 00:00"), "days, as spreadsheets store dates"
    unit, name = {10: (1, "seconds"), 13: (10**3, "milliseconds"), 16: (10**6, "microseconds")}.get(
        len(match[3]), (10**9, "nanoseconds")
    )
    seconds = int(match[3]) // unit
    if seconds not in _SECONDS:
        return None
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}", f"{name} since 1970"


def write_as(text: str, examples: str, *, is_clock: bool = False) -> str:
    """How to write a time that is not one: `write it as` these examples, or what a number stands for.

    If a time of day is wanted (`is_clock`), a number of whole days is none.
    """
    if _SHORT_YEAR.match(text.strip()):
        return f"write its year with four digits, or as {examples.partition(',')[0]}"
    counted = counted_moment(text)
    if is_clock and counted is not None and ":" not in counted[0]:
        counted = None
    return f"it counts {counted[1]}: write {counted[0]}" if counted is not None else f"write it as {examples}"


def read_time(
    text: str, *, zone: ZoneInfo | None = None, now: datetime | None = None, asks_zone: bool = True
) -> datetime:
    """The time in a text, in UTC. A time without an offset is a local time of `zone`.

    With `now`, the day may be `today` or `tomorrow` in the zone: `tomorrow 09:00`. Raises ValueError for a malformed
    time, for a local time without a zone, and for a local time that exists twice or never because clocks are changed.
    `asks_zone` is False where no `time_zone` can be given: the message then does not name it.
    """
    written = text.strip()
    or_zone = ", or give a time_zone such as Asia/Singapore" if asks_zone else ", or with Z for UTC"
    or_day = "" if now is None else " or tomorrow 09:00"
    or_local = f", or as 2030-01-31 09:00{or_day} with a time_zone" if asks_zone else ", or with Z for UTC"
    if now is not None and (word := _DAY.fullmatch(written)) is not None:
        if zone is None:
            raise ValueError(f"{text[:40]!r} has no time zone; give a time_zone such as Asia/Singapore")
        day = now.astimezone(zone).date() + timedelta(days=word[1].casefold() == "tomorrow")
        written = f"{day} {word[2]}"
    match = _FORM.fullmatch(usual_moment(written))
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a time; {write_as(text, f'{EXAMPLE}{or_local}')}")
    day_text, clock, offset = match.groups()
    two_digits = clock if clock[1] != ":" else f"0{clock}"
    try:
        moment = datetime.fromisoformat(f"{day_text}T{two_digits}{(offset or '').upper()}")
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is not a time: there is no such day, time of day or offset; correct it"
        ) from None
    if (ahead := moment.utcoffset()) is not None:
        if (problem := offset_problem(ahead)) is not None:
            raise ValueError(f"{text[:40]!r} is a time {problem}; write it as {EXAMPLE}")
        return _in_utc(moment, text)
    if zone is None:
        raise ValueError(f"{text[:40]!r} has no time zone; write it as {EXAMPLE}{or_zone}")
    first, second = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return _in_utc(first, text)
    # PEP 495: conversion to UTC and back changes a time that does not exist, but not a time that happens twice.
    if _in_utc(first, text).astimezone(zone).replace(tzinfo=None) != moment:
        raise ValueError(
            f"{text[:40]!r} does not exist in {zone.key}: the clocks skip it; give another time, or write an offset"
        )
    raise ValueError(
        f"{text[:40]!r} happens twice in {zone.key}: the clocks go back; write it with an offset, as {EXAMPLE}"
    )


def _in_utc(moment: datetime, text: str) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is not between the years 1 and 9999 in UTC; correct the year") from None


def read_since(text: str, *, zone: ZoneInfo | None = None) -> datetime | timedelta:
    """A time as `read_time` reads it, or how long ago it was, such as 30m, 2h or 7d. Raises ValueError."""
    if "-" in text:
        return read_time(text, zone=zone, asks_zone=False)
    try:
        return read_duration(text)
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is neither a time nor a duration: write a time like {EXAMPLE}, or say how long ago, such "
            "as 30m, 2h or 7d"
        ) from None


_UNKNOWN = "Etc/Unknown"
FIRST_LOOK = datetime(2026, 1, 1, tzinfo=UTC)
_LOOKS = 2 * 366
_MOST_NAMES = 3
_UNOFFICIAL = frozenset({"Asia/Urumqi"})
"""Zones whose clocks people keep beside the official ones: all of China has the time of Peking."""
_MOBILES_WITH_AREAS = frozenset({1, 52, 54, 55})
"""The country codes whose mobile numbers hold the code of an area: North America, Mexico, Argentina, Brazil."""


@dataclass(frozen=True, slots=True)
class NumberZone:
    """The time zone of a number. `zone` is None if the digits do not determine it; `among` are the possible zones."""

    zone: str | None
    among: tuple[str, ...] = ()


def zone_of_number(e164: str, *, at: datetime = FIRST_LOOK) -> NumberZone:
    """The zone of a number that is called at this time, if its digits determine one. Never raises.

    Zones whose clocks agree in the year of `at` and in the next count as one: a British mobile number may be in London
    or on Jersey, and both show the same time.
    """
    return _zone_in(e164, at.year)


@lru_cache(maxsize=4096)
def _zone_in(e164: str, year: int) -> NumberZone:
    number = planned(usual_form(e164)).parsed
    if number.country_code is None:
        return NumberZone(None)
    return _looked_up(number, year) if tells_more(number.country_code) else _zone_of_code(number.country_code, year)


def _looked_up(number: PhoneNumber, year: int) -> NumberZone:
    names = listed_zones(f"{number.country_code}{number.national_number}") or guessed_zones(number)
    if not names or not _agree(names, year):
        return NumberZone(None, names)
    return NumberZone(names[0], names)


# To look a number up takes 15 µs, as long as to fill its text in.
@lru_cache(maxsize=512)
def _zone_of_code(code: int, year: int) -> NumberZone:
    """The zone of each number with a country code, behind which no digits tell more."""
    from phonenumbers import PhoneNumber

    return _looked_up(PhoneNumber(country_code=code, national_number=1), year)


@lru_cache(maxsize=512)
def tells_more(code: int) -> bool:
    """Whether the digits behind a country code may tell in which zone a number is."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE
    from phonenumbers.tzdata import TIMEZONE_DATA

    known = (each for each in (*TIMEZONE_DATA, *listed_prefixes()) if each.startswith(str(code)))
    return len(COUNTRY_CODE_TO_REGION_CODE.get(code, ())) != 1 or any(each != str(code) for each in known)


def guessed_zones(number: PhoneNumber) -> tuple[str, ...]:
    """The zones in which `phonenumbers` has a number, of those of its country (zone.tab).

    `phonenumbers` has some countries in the zone of a neighbour, and the mobile phones of others in one of their zones.
    """
    from phonenumbers import region_code_for_number
    from phonenumbers.timezone import time_zones_for_geographical_number, time_zones_for_number

    names = tuple(name for name in time_zones_for_number(number) if name != _UNKNOWN)
    if not names:  # a number that the plan does not have, yet, is in the zones of its country
        names = tuple(name for name in time_zones_for_geographical_number(number) if name != _UNKNOWN)
    if own := _zones_of_country(region_code_for_number(number) or ""):
        canonical = {_linked().get(name, name) for name in names}
        told = tuple(sorted(name for name in own if name in names or _linked().get(name, name) in canonical))
        names = told if told and _tells_area(number) else (*told, *(name for name in own if name not in told))
    return names


def _tells_area(number: PhoneNumber) -> bool:
    """Whether the digits behind the country code tell in which part of its country a number is."""
    from phonenumbers import PhoneNumberType, number_type
    from phonenumbers.tzdata import TIMEZONE_DATA

    code = str(number.country_code)
    if number_type(number) != PhoneNumberType.FIXED_LINE and number.country_code not in _MOBILES_WITH_AREAS:
        return False
    digits = f"{code}{number.national_number}"
    return any(digits[:length] in TIMEZONE_DATA for length in range(len(code) + 1, len(digits)))


@cache
def _table(name: str) -> list[list[str]]:
    lines = zone_file(name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


@lru_cache(maxsize=512)
def _zones_of_country(region: str) -> tuple[str, ...]:
    """The zones of a country (ISO 3166); none for one that the database does not have.

    A zone that zone1970.tab has under another country first, such as that of Crimea, has the numbers of that one.
    """
    first = {zone: countries.split(",")[0] for countries, _, zone, *_ in _table("zone1970.tab")}
    own = (zone for country, _, zone, *_ in _table("zone.tab") if country == region and zone not in _UNOFFICIAL)
    zones = tuple(own)
    return tuple(zone for zone in zones if first.get(zone, region) == region) or zones


@cache
def _linked() -> dict[str, str]:
    """The zones by their older names: Asia/Kolkata by Asia/Calcutta."""
    lines = (line.split() for line in zone_file("tzdata.zi").read_text(encoding="utf-8").splitlines())
    return {line[2]: line[1] for line in lines if line and line[0] == "L"}


def zone_of_person(numbers: Sequence[str], *, at: datetime = FIRST_LOOK) -> tuple[str | None, str]:
    """The zone in which all numbers of a person are at a time; else None, and why it is not known, as a clause."""
    zone: str | None = None
    for number in numbers:
        found = zone_of_number(number, at=at)
        if found.zone is None:
            return None, f"{number} {_where(found)}"
        if zone is not None and found.zone != zone:
            return None, (
                f"{numbers[0]} and {number} of one person are in different time zones ({zone} and {found.zone})"
            )
        zone = found.zone
    return zone, "" if zone is not None else "there is no number to call"


class UnknownZoneError(ValueError):
    """Raised when nobody knows in which time zone a person is. The message is the reason, as a clause."""


class PersonZone:
    """The time zone in which a person hears times: `own`, else that of the numbers, else `default`.

    It is looked up when it is first asked for. `borrowed` is the default, if it was needed: nothing else knows it then.
    """

    def __init__(self, own: str | None, numbers: Sequence[str], default: str | None = None) -> None:
        self._own = own
        self._numbers = numbers
        self._default = default
        self._found: ZoneInfo | None = None
        self.borrowed: str | None = None

    def shown(self, moment: datetime, written: str) -> datetime:
        """What the clocks of the person show at a moment with an offset.

        Raises UnknownZoneError, and ValueError if the offset is that of another clock: nobody says which one is meant.
        """
        local = moment.astimezone(self.zone())
        if moment.utcoffset() and local.utcoffset() != moment.utcoffset():
            clocks = {"own": f"{moment:%H:%M}", "local": f"{local:%H:%M}", "zone": self.zone().key}
            raise ValueError(tell("two_clocks", time=written[:40], **clocks))
        return local.replace(tzinfo=None)

    def zone(self) -> ZoneInfo:
        """The zone. Raises UnknownZoneError if it is not certain."""
        if self._found is None:
            name, why = (self._own, "") if self._own is not None else zone_of_person(self._numbers)
            if name is None:
                name = self.borrowed = self._default
            if name is None:
                raise UnknownZoneError(why)
            self._found = zone_named(name)
        if self._found is None:
            raise UnknownZoneError(f"{self._own or self._default} is not a time zone")
        return self._found


def _where(found: NumberZone) -> str:
    if not found.among:
        return "is in an unknown time zone"
    names = ", ".join(found.among[:_MOST_NAMES])
    more = f" and {len(found.among) - _MOST_NAMES} more" if len(found.among) > _MOST_NAMES else ""
    return f"may be in several time zones ({names}{more})"


@lru_cache(maxsize=256)
def _agree(names: Sequence[str], year: int) -> bool:
    """Whether the clocks of these zones show the same time on every day of a year and of the next."""
    if len(names) == 1:
        return zone_named(names[0]) is not None
    zones = [zone_named(name) for name in names]
    moments = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=each) for each in range(_LOOKS)]
    shown = {tuple(at.astimezone(zone).utcoffset() for at in moments) for zone in zones if zone is not None}
    return None not in zones and len(shown) == 1
