"""Times as people write them, with an offset or in a time zone; the time zones of numbers and people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from voiceflow_worker.model.numbers.phone import canonical_number, planned
from voiceflow_worker.model.numbers.zones import listed_prefixes, listed_zones
from voiceflow_worker.model.text.arguments import offset_problem
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.model.zones import EXAMPLE, zone_file, zone_named

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber


_FORM = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)\s*([Zz]|[+-]\d{2}:?\d{2})?", re.ASCII
)
_DAY = re.compile(r"(today|tomorrow)[ ,]+(.*)", re.IGNORECASE | re.DOTALL)
_DATE = re.compile(r"(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})(?=[T ,]|$)", re.ASCII)
DATE_LIKE = re.compile(r"\d[/.-]\d{1,2}[/.-]\d", re.ASCII)
"""What each date in figures has in it."""
_SWAPPABLE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(?!\1)(?:0[1-9]|1[0-2])(?!\d)", re.ASCII)
YEARS = range(1910, 2101)
"""The years that people mean. Programs write others where there is no date, or by another calendar."""


class DateOrder(StrEnum):
    """The order of day, month and year in the dates of a file."""

    DMY = "dmy"
    MDY = "mdy"
    YMD = "ymd"


def with_iso_date(text: str, order: DateOrder) -> str:
    """Return the text with the date at its beginning as 2030-01-31: in `dmy`, `31/1/2030 9:00` has that date.

    The parts may have /, . or - between them, and the year has four digits. Other texts stay as they are. Raises
    ValueError, with a clause, for a day that this order does not have.
    """
    match = _DATE.match(text)
    if match is None or 4 not in (len(match[1]), len(match[4])) or (len(match[1]) == 4 and match[2] == "-"):
        return text
    found = dict(zip(order, (match[1], match[3], match[4]), strict=True))
    try:
        if len(found["y"]) != 4:  # the year is in another place
            raise ValueError
        day = date(int(found["y"]), int(found["m"]), int(found["d"]))
    except ValueError:
        raise ValueError(f"holds {match[0]!r}, which is no date in the order {order}; correct it") from None
    rest = text[match.end() :]
    return f"{day}{' ' + rest.lstrip(', ') if rest else ''}"


def begins_with_ordered_date(text: str) -> bool:
    """Return whether a text begins with a date such as 31/1/2030, which is read only with a given order."""
    match = _DATE.match(text)
    return match is not None and 4 in (len(match[1]), len(match[4])) and not (len(match[1]) == 4 and match[2] == "-")


def may_be_swapped(text: str) -> bool:
    """Return whether a text begins with a date such as 2030-04-03, whose day and month may be swapped."""
    return _SWAPPABLE.match(text) is not None


def year_problem(day: date) -> str | None:
    """Return why a day cannot be meant, as a clause; None for a day of these centuries."""
    return None if day.year in YEARS else f"has the year {day.year}: correct it, or leave the cell empty"


def read_time(
    text: str, *, zone: ZoneInfo | None = None, now: datetime | None = None, asks_zone: bool = True
) -> datetime:
    """Return the time in a text in UTC: `2030-01-31 09:00`, with an offset, or as a local time of `zone`.

    With `now`, the day may be `today` or `tomorrow` in the zone. Raises ValueError for another form, for a local time
    without a zone, and for one that exists twice or never because clocks are changed. `asks_zone` is False where no
    `time_zone` can be given: the message then does not name it.
    """
    written, shown = text.strip(), repr(text[:40])
    remedy = "give a time_zone such as Asia/Singapore" if asks_zone else "end it with Z for UTC"
    or_local = ", or as 2030-01-31 09:00 with a time_zone" if asks_zone else ""
    if now is not None and (word := _DAY.fullmatch(written)) is not None:
        if zone is None:
            raise ValueError(f"{shown} has no time zone; {remedy}")
        day = now.astimezone(zone).date() + timedelta(days=word[1].casefold() == "tomorrow")
        written = f"{day} {word[2]}"
    match = _FORM.fullmatch(written)
    if match is None:
        raise ValueError(f"{shown} is not a time; write it as {EXAMPLE}{or_local}")
    day_text, clock, offset = match.groups()
    two_digits = f"0{clock}" if clock[1] == ":" else clock
    try:
        moment = datetime.fromisoformat(f"{day_text}T{two_digits}{(offset or '').upper()}")
    except ValueError:
        raise ValueError(f"{shown} is not a time: there is no such day, time of day or offset; correct it") from None
    if (problem := year_problem(moment)) is not None:
        raise ValueError(f"{shown} {problem}")
    if (ahead := moment.utcoffset()) is not None:
        if (problem := offset_problem(ahead)) is not None:
            raise ValueError(f"{shown} is a time {problem}; write it as {EXAMPLE}")
        return moment.astimezone(UTC)
    if zone is None:
        raise ValueError(f"{shown} has no time zone; write it as {EXAMPLE}, or {remedy}")
    first, second = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    # PEP 495: conversion to UTC and back changes a time that does not exist, but not a time that happens twice.
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment:
        raise ValueError(f"{shown} does not exist in {zone.key}: the clocks skip it; give another time")
    raise ValueError(f"{shown} happens twice in {zone.key}: the clocks go back; write it with an offset, as {EXAMPLE}")


def read_since(text: str, *, zone: ZoneInfo | None = None) -> datetime | timedelta:
    """Return a time as `read_time` reads it, or how long ago it was, such as 30m, 2h or 7d. Raises ValueError."""
    if "-" in text:
        return read_time(text, zone=zone, asks_zone=False)
    try:
        return read_duration(text)
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is no time; write it as {EXAMPLE}, or how long ago it was, such as 30m, 2h or 7d"
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
    """Return the zone of a number that is called at this time, if its digits determine one. Never raises.

    Zones whose clocks agree in the year of `at` and in the next count as one.
    """
    return _zone_in(e164, at.year)


@lru_cache(maxsize=4096)
def _zone_in(e164: str, year: int) -> NumberZone:
    number = planned(canonical_number(e164)).parsed
    if number.country_code is None:
        return NumberZone(None)
    return _looked_up(number, year) if _says_more(number.country_code) else _zone_of_code(number.country_code, year)


def _looked_up(number: PhoneNumber, year: int) -> NumberZone:
    names = listed_zones(f"{number.country_code}{number.national_number}") or guessed_zones(number)
    return NumberZone(names[0] if names and _agree(names, year) else None, names)


@lru_cache(maxsize=512)  # to look a number up takes 40 µs, twice as long as to read it
def _zone_of_code(code: int, year: int) -> NumberZone:
    from phonenumbers import PhoneNumber

    return _looked_up(PhoneNumber(country_code=code, national_number=1), year)


@lru_cache(maxsize=512)
def _says_more(code: int) -> bool:
    """Return whether the digits behind a country code may show in which zone a number is."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE
    from phonenumbers.tzdata import TIMEZONE_DATA

    known = (each for each in (*TIMEZONE_DATA, *listed_prefixes()) if each.startswith(str(code)))
    return len(COUNTRY_CODE_TO_REGION_CODE.get(code, ())) != 1 or any(each != str(code) for each in known)


def guessed_zones(number: PhoneNumber) -> tuple[str, ...]:
    """Return the zones in which `phonenumbers` has a number, of those of its country (zone.tab).

    `phonenumbers` has some countries in the zone of a neighbour, and the mobile phones of others in one of their zones.
    """
    from phonenumbers import region_code_for_number
    from phonenumbers.timezone import time_zones_for_geographical_number, time_zones_for_number

    names = tuple(name for name in time_zones_for_number(number) if name != _UNKNOWN)
    if not names:  # a number that the plan does not have, yet, is in the zones of its country
        names = tuple(name for name in time_zones_for_geographical_number(number) if name != _UNKNOWN)
    if own := _zones_of_country(region_code_for_number(number) or ""):
        canonical = {_linked().get(name, name) for name in names}
        inside = tuple(sorted(name for name in own if name in names or _linked().get(name, name) in canonical))
        names = inside if inside and _has_area(number) else (*inside, *(name for name in own if name not in inside))
    return names


def _has_area(number: PhoneNumber) -> bool:
    """Return whether the digits behind the country code tell in which part of its country a number is."""
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
    """Return the zones of a country (ISO 3166), without those that are another country's first, such as Crimea's."""
    first = {zone: countries.split(",")[0] for countries, _, zone, *_ in _table("zone1970.tab")}
    own = (zone for country, _, zone, *_ in _table("zone.tab") if country == region and zone not in _UNOFFICIAL)
    zones = tuple(own)
    return tuple(zone for zone in zones if first.get(zone, region) == region) or zones


@cache
def _linked() -> dict[str, str]:
    """Return the zones by their older names: Asia/Kolkata by Asia/Calcutta."""
    lines = (line.split() for line in zone_file("tzdata.zi").read_text(encoding="utf-8").splitlines())
    return {line[2]: line[1] for line in lines if line and line[0] == "L"}


def zone_of_person(numbers: Sequence[str], *, at: datetime = FIRST_LOOK) -> tuple[str | None, str]:
    """Return the zone in which all numbers of a person are at a time; else None, and the reason as a clause."""
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
    """Raised when the time zone of a person is not known. The message is the reason, as a clause."""


class PersonZone:
    """The time zone in which a person hears times: `own`, else that of the numbers, else `default`.

    `fallback_zone` is the default, if nothing else knows the zone.
    """

    def __init__(self, own: str | None, numbers: Sequence[str], default: str | None = None) -> None:
        self._own = own
        self._numbers = numbers
        self._default = default
        self._found: ZoneInfo | None = None
        self.fallback_zone: str | None = None

    def to_local(self, moment: datetime, written: str) -> datetime:
        """Return the local time of the person at a moment with an offset.

        Raises UnknownZoneError, and ValueError if the offset is that of another clock: nobody says which one is meant.
        """
        local = moment.astimezone(self.zone())
        if moment.utcoffset() and local.utcoffset() != moment.utcoffset():
            raise ValueError(
                f"{written[:40]!r} is {moment:%H:%M} by its own clock, and {local:%H:%M} in {self.zone().key}, where "
                "the person is: write the local time that is meant, without an offset"
            )
        return local.replace(tzinfo=None)

    def zone(self) -> ZoneInfo:
        """Return the zone. Raises UnknownZoneError if it is not certain."""
        if self._found is None:
            name, why = (self._own, "") if self._own is not None else zone_of_person(self._numbers)
            if name is None:
                name = self.fallback_zone = self._default
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
    """Return whether the clocks of these zones show the same time on every day of a year and of the next."""
    if len(names) == 1:
        return zone_named(names[0]) is not None
    zones = [zone_named(name) for name in names]
    moments = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=each) for each in range(_LOOKS)]
    shown = {tuple(at.astimezone(zone).utcoffset() for at in moments) for zone in zones if zone is not None}
    return None not in zones and len(shown) == 1
