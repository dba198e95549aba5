"""The time zones of telephone numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from voiceflow_worker.model.numbers.phone import is_e164, normalise
from voiceflow_worker.model.times import zone_file, zone_named

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

_UNKNOWN = "Etc/Unknown"
_FIRST_LOOK = datetime(2026, 1, 1, tzinfo=UTC)
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


@lru_cache(maxsize=4096)
def zone_of_number(e164: str) -> NumberZone:
    """The zone of a number: of those of its country (zone.tab), those in which `phonenumbers` has it. Never raises.

    `phonenumbers` has some countries in the zone of a neighbour, and the mobile phones of others in one of their zones.
    Zones whose clocks always agree count as one: a British mobile number may be in London or on Jersey, and both show
    the same time.
    """
    # The import takes 10 ms, so it is done only for a call whose local time is asked for.
    import phonenumbers
    from phonenumbers.timezone import time_zones_for_geographical_number, time_zones_for_number

    if not is_e164(e164):
        return NumberZone(None)
    try:
        number = phonenumbers.parse(normalise(e164))
    except phonenumbers.NumberParseException:
        return NumberZone(None)
    names = tuple(name for name in time_zones_for_number(number) if name != _UNKNOWN)
    if not names:  # a number that the plan does not have, yet, is in the zones of its country
        names = tuple(name for name in time_zones_for_geographical_number(number) if name != _UNKNOWN)
    if own := _zones_of_country(phonenumbers.region_code_for_number(number) or ""):
        canonical = {_linked().get(name, name) for name in names}
        told = tuple(sorted(name for name in own if name in names or _linked().get(name, name) in canonical))
        names = told if told and _tells_area(number) else (*told, *(name for name in own if name not in told))
    if not names or not _agree(names):
        return NumberZone(None, names)
    return NumberZone(names[0], names)


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


def zone_of_person(numbers: Sequence[str]) -> tuple[str | None, str]:
    """The zone in which all numbers of a person are; else None, and why it is not known, as a clause."""
    zone: str | None = None
    for number in numbers:
        found = zone_of_number(number)
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
def _agree(names: Sequence[str]) -> bool:
    """Whether the clocks of these zones show the same time on every day of two years."""
    if len(names) == 1:
        return zone_named(names[0]) is not None
    zones = [zone_named(name) for name in names]
    moments = [_FIRST_LOOK + timedelta(days=each) for each in range(_LOOKS)]
    shown = {tuple(at.astimezone(zone).utcoffset() for at in moments) for zone in zones if zone is not None}
    return None not in zones and len(shown) == 1
